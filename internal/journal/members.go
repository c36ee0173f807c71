package journal

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
)

// members knows which workers are alive. Each says so every third of the lease time,
// by a message that is not stored; whoever was not heard of for the lease time, by
// the clock of the one that listens, counts as dead.
//
// A process that does not reach the engine hears of nobody, and nobody of it: it
// counts itself dead after the lease time, and nobody else.
type members struct {
	journal *Journal
	worker  string
	lease   time.Duration
	// alone says that the engine is this process's own: there is nobody else.
	alone bool

	mu sync.Mutex
	// heard is when each worker was last heard of; left has those that said so.
	heard map[string]time.Time
	left  map[string]bool
	// reached is when the engine was last asked something that it answered.
	reached time.Time
	gone    bool
}

const headerLeft = "Understudy-Left"

func newMembers(j *Journal, worker string, lease time.Duration, alone bool) *members {
	return &members{
		journal: j, worker: worker, lease: lease, alone: alone,
		heard: map[string]time.Time{}, left: map[string]bool{}, reached: time.Now(),
	}
}

// alive returns the workers that are alive, sorted.
func (m *members) alive() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now()
	var workers []string
	cut := m.cutLocked(now)
	for worker, heard := range m.heard {
		if cut || now.Sub(heard) < m.lease {
			workers = append(workers, worker)
		}
	}
	if !m.gone && !cut {
		workers = append(workers, m.worker)
	}
	slices.Sort(workers)
	return workers
}

// cut says whether this process has to count itself dead.
func (m *members) cut() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.cutLocked(time.Now())
}

func (m *members) cutLocked(now time.Time) bool { return !m.alone && now.Sub(m.reached) >= m.lease }

// hear notes that a worker is alive, and returns whether it is new.
func (m *members) hear(worker string) bool {
	if worker == "" || worker == m.worker || m.alone {
		return false
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.left[worker] {
		return false
	}
	_, known := m.heard[worker]
	m.heard[worker] = time.Now()
	return !known
}

// farewell notes that a worker left.
func (m *members) farewell(worker string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.left[worker] = true
	delete(m.heard, worker)
}

// reach notes that the engine answered what was asked at a time. After a while in
// which this process heard of nobody the lease of everybody begins anew.
func (m *members) reach(asked time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if asked.Sub(m.reached) > m.lease/2 {
		for worker := range m.heard {
			m.heard[worker] = time.Now()
		}
	}
	m.reached = asked
}

// receive takes in what another worker says.
func (m *members) receive(message *nats.Msg) {
	worker := message.Header.Get(headerWorker)
	if worker == "" || worker == m.worker {
		return
	}
	if message.Header.Get(headerLeft) != "" {
		m.farewell(worker)
		m.journal.signal()
		return
	}
	if m.hear(worker) {
		m.say(false) // it does not know this one either
		m.journal.signal()
	}
}

// say tells the other workers that this one is alive, or leaves.
func (m *members) say(leaving bool) {
	m.mu.Lock()
	gone := m.gone
	m.mu.Unlock()
	if gone && !leaving {
		return
	}
	message := nats.NewMsg(m.journal.names.alive())
	message.Header.Set(headerWorker, m.worker)
	if leaving {
		message.Header.Set(headerLeft, "true")
	}
	if err := m.journal.conn.PublishMsg(message); err != nil {
		m.journal.logger.Debug("the other workers could not be told that this one is there", "error", err)
	}
}

// leave tells the other workers that this one takes no more part.
func (m *members) leave() {
	m.mu.Lock()
	gone := m.gone
	m.gone = true
	m.mu.Unlock()
	if gone || m.alone {
		return
	}
	m.say(true)
	if err := m.journal.conn.FlushTimeout(publishTimeout); err != nil {
		m.journal.logger.Warn("the other workers could not be told that this one leaves: they wait for the lease time", "error", err)
	}
}

// beat says that this process is there until the context is done, and finds out
// whether it reaches the engine.
func (m *members) beat(ctx context.Context) {
	ticker := time.NewTicker(m.lease / 3)
	defer ticker.Stop()
	for {
		m.say(false)
		asked := time.Now()
		question, cancel := context.WithTimeout(ctx, m.lease/3)
		// Its leader answers that, so that a node which is cut off itself does not.
		_, err := m.journal.store.events.Info(question)
		cancel()
		if err == nil {
			m.reach(asked)
		}
		wait := ticker.C
		if err != nil && ctx.Err() == nil {
			wait = time.After(m.lease / 10)
		}
		select {
		case <-ctx.Done():
			return
		case <-wait:
		}
	}
}

// watch signals when somebody is no longer heard of, this process included.
func (m *members) watch(ctx context.Context) {
	ticker := time.NewTicker(min(m.lease/10, time.Second))
	defer ticker.Stop()
	before := m.alive()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		now := m.alive()
		if slices.Equal(now, before) {
			continue
		}
		m.forget()
		before = now
		m.journal.signal()
	}
}

// forget drops those that are dead for long; heard of again, they are new.
func (m *members) forget() {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now()
	if m.cutLocked(now) {
		return
	}
	maps.DeleteFunc(m.heard, func(_ string, heard time.Time) bool { return now.Sub(heard) > 10*m.lease })
}

// Alive implements [port.Syncs].
func (j *Journal) Alive() []string { return j.members.alive() }

// Leave tells the other processes that this one takes no more part: what it runs may
// be taken over at once. Close does it too.
func (j *Journal) Leave() {
	if j.members != nil && j.store != nil {
		j.members.leave()
		j.signal()
	}
}
