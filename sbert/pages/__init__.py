"""HTML pages of reports: one file each, which loads nothing, in one style, with its pictures inside."""
