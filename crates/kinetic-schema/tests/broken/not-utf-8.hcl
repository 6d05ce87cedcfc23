region "local" {}

# café
