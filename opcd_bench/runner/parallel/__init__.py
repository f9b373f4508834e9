"""One cell in several processes: the first one runs it, and the others follow."""
