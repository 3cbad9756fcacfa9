"""The words of the user: the config of a run, the catalog of named data, and the images they name.

Read `schema` first (every key), then `catalog` (from names to files); `fields` has the types of single values,
`catalog_file` the catalog's own schema, `source` one image that is named and `batch` what is then known of it, `series`
what dates do for one another, `names` what follows from a file's name, `placeholders` paths that follow from an image,
`options` what fills take, `opening` opens an image, and `fits` checks what only the open one can deny. `bids` knows
names, sidecars and folders of BIDS data sets, `lesions` what their masks are called. The folder products reads scenes
as agencies deliver them.
"""
