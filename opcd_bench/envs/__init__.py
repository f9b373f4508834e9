"""What a task is made of: contract, contexts, question and game kits, data sets, answer graders."""
