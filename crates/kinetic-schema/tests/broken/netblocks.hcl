region "local" {}

mail {
  relay = "localhost:25"
  from  = "kinetic@example.org"
}

customer "acme" {
  region    = region.local
  netblocks = ["10.1.0.0/16", "192.0.2.7/24", "all"]
}

customer "globex" {
  region    = region.local
  netblocks = ["10.0.0.0/8"]
}
