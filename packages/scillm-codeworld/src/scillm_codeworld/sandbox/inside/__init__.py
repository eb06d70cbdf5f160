"""What runs on the child's side of the wall. Standard library only, and free of the package."""
