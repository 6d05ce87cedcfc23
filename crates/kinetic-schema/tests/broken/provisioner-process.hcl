provisioner "process" {
  min            = 5
  max            = 4
  scale_up_after = 120
  idle_after     = "8d"
  load_high      = 0.5
  load_low       = 0.5
  data_dir       = "nodes"
  image          = "kinetic"
  dry_run        = 1
}
