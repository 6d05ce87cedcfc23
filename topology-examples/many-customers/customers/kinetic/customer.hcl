# The installation's own customer. A key of this one may speak for all: `kinetic agent --edge` logs in with it.
customer "kinetic" {
  region = region["eu.hosting"]

  key "edge-1" {
    salted_sha256 = "61841bee307c609f87da43c3d563428a4f7efdf9857f4871fd10465732c4ab11a985a08c"
    purpose       = "edge"
    expires       = "2027-06-30"
  }
}
