region "local" {}

mial {
  relay = "localhost:25"
  from  = "kinetic@example.org"
}

cluster "a" {}

nonsense {}
