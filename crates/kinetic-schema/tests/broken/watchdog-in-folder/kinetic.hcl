region "local" {}

watchdog {}
