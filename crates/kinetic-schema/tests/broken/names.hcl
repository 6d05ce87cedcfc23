region "us west" {}

customer "Acme_Corp" {}

customer "acme" {
  region = region["us west"]

  source "web.front" {
    routing = ["#"]
  }
  source {
    routing = ["#"]
  }
  service "a" "b" {}
}
