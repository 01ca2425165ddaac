"""ProcoreFS: the Documents of a Procore project as a directory."""
