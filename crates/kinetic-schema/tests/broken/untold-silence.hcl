region "local" {}

customer "acme" {
  region       = region.local
  silent_after = "10m"
}
