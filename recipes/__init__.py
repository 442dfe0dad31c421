"""Job files for the rows of the papers' tables, with the printed numbers in `index.json`.

The files are plain jobs: edit the paths and submit them. `acamkd recipes` lists them and fills the paths in.
They are generated from `recipes.table`, so that rows of one table differ in what the table says and in nothing else:
`python -m recipes.write`.
"""
