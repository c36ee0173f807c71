package main

import (
	"fmt"

	"understudy.internal/internal/vault"
)

// checkRecipients adds what is wrong with the recipients of a tenant's secrets. Their
// texts are not repeated: a private key is easily put here.
func (d *decoder) checkRecipients(key string, recipients []string) {
	right := true
	for i, recipient := range recipients {
		if err := vault.CheckRecipient(recipient); err != nil {
			right = false
			d.claim(fmt.Sprintf("%s[%d]", key, i), "%s. Write the public key, `age1…`, as `age-keygen` shows it.", err)
		}
	}
	if err := vault.CheckRecipients(recipients); right && err != nil {
		d.claim(key, "%s. Write those of one kind: with one that is not safe against quantum computers, none is.", err)
	}
}
