"""What is asked of every contributed method and task."""
