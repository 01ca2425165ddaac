"""`procorefs desktop`: installs what file managers need, and does what their menus offer."""
