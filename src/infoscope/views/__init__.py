"""What people see of a run: the site, figures for papers, and what a notebook shows."""
