"""One file per source of holes; the file name is the `kind:` of a mask entry."""
