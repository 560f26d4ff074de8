"""Where photographs come from: archives, folders and lists of addresses."""
