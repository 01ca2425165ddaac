"""What programs see: the tree with local changes applied to it, and every change that a program makes."""
