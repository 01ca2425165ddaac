"""What programs see: the tree with local changes laid over it, and every change that a program makes."""
