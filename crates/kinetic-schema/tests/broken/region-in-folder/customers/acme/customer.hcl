customer "acme" {
  region = region.local
}

region "mine" {}
