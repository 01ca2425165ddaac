"""The checks of `procorefs doctor`: of this machine, the account and the state, and the file for a bug report."""
