"""What only reproduces the paper: its tables, its Figure 5, its costs, and the checkpoints of others."""
