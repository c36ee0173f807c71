package simulator

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
)

// adminHandler is the admin port: what should go wrong, and what was asked. It has
// no TLS and no sign-in: it is on loopback, and answers only who calls it so.
func (s *Simulator) adminHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /scenarios", func(w http.ResponseWriter, _ *http.Request) { reply(w, http.StatusOK, Scenarios()) })
	mux.HandleFunc("GET /scenario", func(w http.ResponseWriter, _ *http.Request) { reply(w, http.StatusOK, s.Active()) })
	mux.HandleFunc("PUT /scenario", s.putScenario)
	mux.HandleFunc("POST /items", s.postItems)
	mux.HandleFunc("POST /devicelogin", s.postDeviceLogin)
	mux.HandleFunc("GET /requests", func(w http.ResponseWriter, _ *http.Request) { reply(w, http.StatusOK, s.Requests()) })
	mux.HandleFunc("GET /stats", func(w http.ResponseWriter, _ *http.Request) { reply(w, http.StatusOK, s.Stats()) })
	mux.HandleFunc("POST /reset", func(w http.ResponseWriter, _ *http.Request) {
		s.Reset()
		reply(w, http.StatusOK, map[string]string{})
	})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !fromLoopback(r) {
			reply(w, http.StatusForbidden, map[string]string{"error": "the admin port is for loopback addresses only"})
			return
		}
		mux.ServeHTTP(w, r)
	})
}

// fromLoopback says whether a request was sent to a loopback name, and not by a
// page of another site: a name that is made to lead here (DNS rebinding) is not
// one.
func fromLoopback(r *http.Request) bool {
	if !isLoopback(hostOnly(r.Host)) {
		return false
	}
	origin := r.Header.Get("Origin")
	if origin == "" {
		return true
	}
	u, err := url.Parse(origin)
	return err == nil && isLoopback(u.Hostname())
}

func hostOnly(hostPort string) string {
	if host, _, err := net.SplitHostPort(hostPort); err == nil {
		return host
	}
	return hostPort
}

// read reads the JSON body of a call; unknown fields are an error.
func read(r *http.Request, into any) error {
	body, err := io.ReadAll(io.LimitReader(r.Body, 1<<20))
	if err != nil {
		return fmt.Errorf("reading the body: %w", err)
	}
	return strictly(body, into)
}

func strictly(body []byte, into any) error {
	decoder := json.NewDecoder(bytes.NewReader(body))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(into); err != nil {
		return fmt.Errorf("the body is not what is expected: %w", err)
	}
	if decoder.More() {
		return fmt.Errorf("the body has more than one value")
	}
	return nil
}

func refused(w http.ResponseWriter, err error) {
	reply(w, http.StatusBadRequest, map[string]string{"error": err.Error()})
}

// putScenario takes one scenario or a list of them.
func (s *Simulator) putScenario(w http.ResponseWriter, r *http.Request) {
	var raw json.RawMessage
	if err := read(r, &raw); err != nil {
		refused(w, err)
		return
	}
	list := make([]Scenario, 1)
	var err error
	if bytes.HasPrefix(raw, []byte("{")) {
		err = strictly(raw, &list[0])
	} else {
		err = strictly(raw, &list)
	}
	if err == nil {
		err = s.SetScenarios(list...)
	}
	if err != nil {
		refused(w, err)
		return
	}
	reply(w, http.StatusOK, s.Active())
}

// postItems changes the items of a collection.
func (s *Simulator) postItems(w http.ResponseWriter, r *http.Request) {
	var call struct {
		// Path of the collection with version; Action is `change`, `rename`, `remove` or
		// `count`.
		Path   string `json:"path"`
		Action string `json:"action"`
		// Item is the number of the item, from 0; Count how many there are; Name what the
		// item is called from now on.
		Item  int    `json:"item"`
		Count int    `json:"count"`
		Name  string `json:"name,omitempty"`
	}
	err := read(r, &call)
	if err == nil {
		switch {
		case call.Item < 0 || call.Count < 0:
			err = fmt.Errorf("item and count must not be negative")
		case call.Action == "change":
			err = s.ChangeItem(call.Path, call.Item)
		case call.Action == "rename":
			err = s.RenameItem(call.Path, call.Item, call.Name)
		case call.Action == "remove":
			err = s.RemoveItem(call.Path, call.Item)
		case call.Action == "count":
			err = s.SetCount(call.Path, call.Count)
		default:
			err = fmt.Errorf("action %q must be change, rename, remove or count", call.Action)
		}
	}
	if err != nil {
		refused(w, err)
		return
	}
	reply(w, http.StatusOK, call)
}

// postDeviceLogin answers a sign-in as a person on the page does: that of a code,
// or the newest that waits.
func (s *Simulator) postDeviceLogin(w http.ResponseWriter, r *http.Request) {
	var call struct {
		Answer string `json:"answer"`
		Code   string `json:"code"`
	}
	err := read(r, &call)
	if err == nil && call.Answer != "complete" && call.Answer != "decline" {
		err = fmt.Errorf("answer %q must be complete or decline", call.Answer)
	}
	if err != nil {
		refused(w, err)
		return
	}
	if call.Code == "" {
		err = s.AnswerNewestDeviceCode(call.Answer == "complete")
	} else {
		err = s.AnswerDeviceCode(call.Code, call.Answer == "complete")
	}
	if err != nil {
		reply(w, http.StatusNotFound, map[string]string{"error": err.Error()})
		return
	}
	reply(w, http.StatusOK, map[string]string{"answer": call.Answer})
}
