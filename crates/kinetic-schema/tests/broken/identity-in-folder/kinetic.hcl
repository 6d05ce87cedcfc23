region "local" {}

customer "globex" {
  region    = region.local
  netblocks = ["203.0.113.0/24", "::ffff:203.0.113.0/120"]
}
