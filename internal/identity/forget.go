package identity

import "errors"

// Forgotten is what [User.Forget] found and removed.
type Forgotten struct {
	// SignIn is a cached sign-in; Refusal which password was refused.
	SignIn, Refusal bool
}

// Forget removes what is stored of the user: the cached sign-in, so that a person has
// to sign in again, and which password was refused, so that it is tried again. All that
// share the store forget with it, when they next sign in; tokens that they hold stay good
// for as long as Microsoft lets them. What is removed need not be readable: the key
// may be any.
func (u *User) Forget() (Forgotten, error) {
	signIn, signInErr := u.cache.remove()
	refusal, refusalErr := u.passwords.forget()
	return Forgotten{SignIn: signIn, Refusal: refusal}, errors.Join(signInErr, refusalErr)
}

// remove removes the sign-in, also one that was put aside, and says whether there was
// one.
func (c *tokenCache) remove() (bool, error) {
	aside, asideErr := discard(c.store, c.name+unreadable)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.content, c.unsaved = nil, false
	found, err := discard(c.store, c.name)
	return found || aside, errors.Join(err, asideErr)
}

// forget forgets which password was refused, and says whether one was.
func (r *refusedPasswords) forget() (bool, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.own, r.unsaved = nil, false
	return discard(r.store, r.name)
}

// discard removes a value, and says whether there was one.
func discard(store Store, name string) (bool, error) {
	value, err := store.Load(name)
	if err != nil || value == nil {
		return false, err
	}
	return true, store.Delete(name)
}
