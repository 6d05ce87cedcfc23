region "local" {
  queues = "mirrored"
  zones  = ["a", "b", "a", "zone c", 4]
  order  = "by-origin"
}

mail {
  relay = "localhost:25"
  from  = "kinetic@localhost"
}

customer "acme" {
  region   = region.local
  disabled = "yes"

  source "none" {
    routing    = ["a"]
    partitions = 0
  }

  source "many" {
    routing    = ["b"]
    partitions = 65
  }

  source "half" {
    routing    = ["c"]
    partitions = 1.5
  }

  source "all" {
    routing   = ["d"]
    partition = 4
  }
}
