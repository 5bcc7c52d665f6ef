"""Plain records of sizes and ranges that estimates and programs share."""
