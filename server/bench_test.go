package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	understudyv1 "understudy.internal/gen/understudy/v1"
)

const (
	benchLatency     = 50 * time.Millisecond
	benchConnections = 16
	benchBatch       = 20
)

// benchTypes are read as a list and a request for the assignments of each item.
var benchTypes = map[string]string{
	"intune/enrollment-configurations": "/deviceManagement/deviceEnrollmentConfigurations",
	"intune/terms-and-conditions":      "/deviceManagement/termsAndConditions",
	"intune/windows-driver-updates":    "/deviceManagement/windowsDriverUpdateProfiles",
	"intune/mobile-app-configurations": "/deviceAppManagement/mobileAppConfigurations",
}

// BenchmarkSync is a whole sync of 2,000 items with a child each, at 50 ms an
// answer, from RunSync to `finished`: sign-in, reading, commit, events. The floor is
// the least HTTP work that fetches the same data: pages one after the other, as
// they must be, children in batches of 20 as soon as their page is there, over 16
// connections, nothing kept. Goal: at most 2 times the floor.
func BenchmarkSync(b *testing.B) {
	types := make([]string, 0, len(benchTypes))
	for id := range benchTypes {
		types = append(types, id)
	}
	l, err := newLab(b.Context(), labConfig{
		Folder: b.TempDir(), GRPC: "127.0.0.1:0", Entra: "127.0.0.1:0", Admin: "127.0.0.1:0",
		Items: 2000 / len(types), Latency: benchLatency, Types: types, SignInTimeout: time.Second, Logger: labLogger(io.Discard),
	})
	if err != nil {
		b.Fatal(err)
	}
	defer l.close()
	err = l.run(b.Context(), func(ctx context.Context) error {
		connection, err := grpc.NewClient(l.address(), grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			return err
		}
		defer connection.Close()
		client := understudyv1.NewSyncServiceClient(connection)
		floor, err := newFloor(ctx, l)
		if err != nil {
			return err
		}
		defer floor.client.CloseIdleConnections()
		if err := errors.Join(floor.run(ctx), runOnce(ctx, client)); err != nil { // connections
			return err
		}
		var own, least time.Duration
		for b.Loop() {
			start := time.Now()
			if err := runOnce(ctx, client); err != nil {
				return err
			}
			own += time.Since(start)
			b.StopTimer()
			start = time.Now()
			if err := floor.run(ctx); err != nil {
				return err
			}
			least += time.Since(start)
			b.StartTimer()
		}
		b.ReportMetric(own.Seconds()/least.Seconds(), "x-of-floor")
		return nil
	})
	if err != nil {
		b.Fatal(err)
	}
}

// runOnce runs a sync of contoso that succeeds.
func runOnce(ctx context.Context, client understudyv1.SyncServiceClient) error {
	stream, err := client.RunSync(ctx, &understudyv1.RunSyncRequest{Parent: "tenants/contoso"})
	if err != nil {
		return err
	}
	for {
		response, err := stream.Recv()
		if err != nil {
			return err
		}
		if sync := response.GetEvent().GetFinished().GetSync(); sync != nil {
			return expect(sync, succeeded)
		}
	}
}

// floor fetches what a sync reads, and does nothing with it.
type floor struct {
	address, token string
	client         *http.Client
	slots          chan struct{}
}

func newFloor(ctx context.Context, l *lab) (*floor, error) {
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(l.simulator.CAPEM())
	f := &floor{
		address: l.simulator.URL() + "/beta", slots: make(chan struct{}, benchConnections),
		client: &http.Client{Transport: &http.Transport{
			TLSClientConfig: &tls.Config{RootCAs: roots}, ForceAttemptHTTP2: true, MaxIdleConnsPerHost: benchConnections,
		}},
	}
	account := l.simulator.Account()
	form := url.Values{
		"grant_type": {"client_credentials"}, "client_id": {account.ClientID}, "client_secret": {account.ClientSecret},
		"scope": {l.simulator.URL() + "/.default"},
	}
	address := fmt.Sprintf("%s/%s/oauth2/v2.0/token", l.simulator.URL(), account.DirectoryID)
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, address, strings.NewReader(form.Encode()))
	if err != nil {
		return nil, err
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	body, err := f.fetch(request)
	if err != nil {
		return nil, err
	}
	var answer struct {
		Token string `json:"access_token"`
	}
	f.token = "Bearer "
	if err := json.Unmarshal(body, &answer); err != nil {
		return nil, err
	}
	f.token += answer.Token
	return f, nil
}

func (f *floor) run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	for _, path := range benchTypes {
		group.Go(func() error { return f.list(ctx, group, path) })
	}
	return group.Wait()
}

func (f *floor) list(ctx context.Context, group *errgroup.Group, path string) error {
	for next := f.address + path; next != ""; {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, next, http.NoBody)
		if err != nil {
			return err
		}
		body, err := f.fetch(request)
		if err != nil {
			return err
		}
		var page struct {
			Next  string `json:"@odata.nextLink"`
			Value []struct {
				ID string `json:"id"`
			} `json:"value"`
		}
		if err := json.Unmarshal(body, &page); err != nil {
			return err
		}
		next = page.Next
		for from := 0; from < len(page.Value); from += benchBatch {
			items := page.Value[from:min(from+benchBatch, len(page.Value))]
			parts := make([]string, len(items))
			for i, item := range items {
				parts[i] = fmt.Sprintf(`{"id":"%d","method":"GET","url":"%s/%s/assignments"}`, i, path, item.ID)
			}
			group.Go(func() error { return f.batch(ctx, parts) })
		}
	}
	return nil
}

func (f *floor) batch(ctx context.Context, parts []string) error {
	body := `{"requests":[` + strings.Join(parts, ",") + `]}`
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, f.address+"/$batch", strings.NewReader(body))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/json")
	answer, err := f.fetch(request)
	if err == nil && bytes.Count(answer, []byte(`"status":200`)) != len(parts) {
		err = errors.New("a part of a batch was refused")
	}
	return err
}

func (f *floor) fetch(request *http.Request) ([]byte, error) {
	f.slots <- struct{}{}
	defer func() { <-f.slots }()
	if f.token != "" {
		request.Header.Set("Authorization", f.token)
	}
	response, err := f.client.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s answered %s", request.URL.Path, response.Status)
	}
	return io.ReadAll(response.Body)
}
