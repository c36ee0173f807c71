package simulator_test

import (
	"context"
	"errors"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"understudy.internal/internal/simulator"
)

// TestCloseEndsWhatHangs closes a tenant while a sign-in hangs. goleak sees
// whether anything is left.
func TestCloseEndsWhatHangs(t *testing.T) {
	t.Parallel()
	x := start(t, simulator.Config{})
	if err := x.SetScenarios(simulator.Scenario{Name: "token-endpoint-hangs"}); err != nil {
		t.Fatal(err)
	}
	x.token(bySecret) // the service principal is not concerned
	failed := make(chan error, 1)
	go func() {
		response, err := x.client.PostForm(x.URL()+"/"+directory+"/oauth2/v2.0/token", byPassword)
		if err == nil {
			response.Body.Close()
		}
		failed <- err
	}()
	for x.Stats().Tokens["user"] == 0 {
		select {
		case err := <-failed:
			t.Fatalf("the sign-in ended by itself: %v", err)
		case <-t.Context().Done():
			t.Fatal("the sign-in did not arrive")
		default:
		}
	}
	x.Close()
	if err := <-failed; err == nil {
		t.Error("a sign-in that hangs was answered")
	}
	x.Close() // again
}

// TestHangingSignInEndsWithItsClient cancels the client: Close has nothing to wait
// for, and goleak nothing to find.
func TestHangingSignInEndsWithItsClient(t *testing.T) {
	t.Parallel()
	x := start(t, simulator.Config{})
	if err := x.SetScenarios(simulator.Scenario{Name: "token-endpoint-hangs", Identity: "service-principal"}); err != nil {
		t.Fatal(err)
	}
	x.token(byPassword)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, x.URL()+"/"+directory+"/oauth2/v2.0/token", strings.NewReader(bySecret.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	response, err := x.client.Do(request)
	if err == nil {
		response.Body.Close()
	}
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v, want no answer", err)
	}
}

func TestStartFails(t *testing.T) {
	t.Parallel()
	var config net.ListenConfig
	taken, err := config.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	free := func() string {
		l, err := config.Listen(t.Context(), "tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		return l.Addr().String()
	}
	for name, c := range map[string]simulator.Config{
		"the admin port is taken":     {Listen: free(), AdminListen: taken.Addr().String()},
		"the directory is not usable": {Listen: free(), AdminListen: free(), Directory: filepath.Join(file, "below")},
	} {
		s, err := simulator.New(c)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Start(t.Context()); err == nil {
			t.Errorf("%s: it started", name)
		}
		l, err := config.Listen(t.Context(), "tcp", c.Listen)
		if err != nil {
			t.Errorf("%s: the listener was not freed: %v", name, err)
			continue
		}
		l.Close()
		s.Close()
	}
}

func TestConfigIsChecked(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]simulator.Config{
		"all addresses":  {Listen: "0.0.0.0:0"},
		"another host":   {AdminListen: "192.0.2.1:9444"},
		"no port":        {Listen: "127.0.0.1"},
		"negative":       {Items: -1},
		"unknown counts": {Counts: map[string]int{"/v1.0/nothing": 1}},
	} {
		if _, err := simulator.New(c); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	var unknown *simulator.UnknownPathError
	if _, err := simulator.New(simulator.Config{Counts: map[string]int{"/v1.0/nothing": 1}}); !errors.As(err, &unknown) {
		t.Errorf("%v", err)
	}
}

func TestCAFile(t *testing.T) {
	t.Parallel()
	folder := filepath.Join(t.TempDir(), "lab")
	x := start(t, simulator.Config{Directory: folder})
	content, err := os.ReadFile(filepath.Join(folder, "ca.pem"))
	if err != nil || string(content) != string(x.CAPEM()) {
		t.Errorf("ca.pem: %v", err)
	}
	if account := x.Account(); account.Marker != "SIM" || account.ClientID != clientID || account.Username != username {
		t.Errorf("%+v", account)
	}
}
