"""The words of the user: the config of a run, the catalog of named data, and the images they name.

Read `schema` first (every key), then `catalog` (from names to files); `fields` has the types of single values and
`catalog_file` the catalog's own schema.
"""
