region "local" {}

mail {
  relay = "localhost:25"
  from  = "kinetic@example.org"
}

