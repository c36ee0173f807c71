package vault

const childRole = "UNDERSTUDY_VAULT_CHILD"

func runChild(string) int { return 2 }
