"""What a backup is: values and rules. Standard library only, no input or output."""
