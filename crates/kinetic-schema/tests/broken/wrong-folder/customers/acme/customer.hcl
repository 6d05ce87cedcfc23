customer "globex" {
  region = region.local
}
