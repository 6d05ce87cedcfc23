region "local" {}

mail {
  relay = "localhost:25"
}

customer "acme" {
  key "a" {}
  source "web" {}
  service "s" {
    cluster "c" {}
  }
  analytic "x" {}
  alert "y" {}
}
