region "local" {}

customer "kinetic" {
  region = region.local
}
