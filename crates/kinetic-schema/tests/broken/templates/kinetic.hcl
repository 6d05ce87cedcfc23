region "local" {}

customer "acme" {
  region = region.local
}
