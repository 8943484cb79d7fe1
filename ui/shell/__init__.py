"""What surrounds every page: the state that pages share, the URL, links to pages, changed files."""
