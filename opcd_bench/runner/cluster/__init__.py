"""Where the jobs of a suite run: processes of this machine, SLURM, or Ray."""
