package journal

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
)

// members knows which workers are alive. Each says so several times in its lease time, by
// a message that is not stored and that says how long this is; whoever was silent for
// most of it, by the clock of the one that listens, counts as dead: with what is left
// another one has taken its syncs over by the end of the lease time.
//
// A process that does not reach the engine hears of nobody, and nobody of it: it judges
// nobody, and counts itself dead after the lease time.
type members struct {
	journal *Journal
	worker  string
	lease   time.Duration
	// alone says that the engine is this process's own: there is nobody else.
	alone bool

	mu sync.Mutex
	// others are the workers that were heard of; left has those that said so.
	others map[string]member
	left   map[string]bool
	// reached is when the engine was last asked something that it answered.
	reached time.Time
	gone    bool
}

// member is another worker.
type member struct {
	// heard is when it was last heard of.
	heard time.Time
	// lease is its own; this process's until it says another one.
	lease time.Duration
}

const (
	headerLeft  = "Understudy-Left"
	headerLease = "Understudy-Lease"
)

// beatOf is how often a worker says that it is alive. Older versions do every third of
// their lease.
func beatOf(lease time.Duration) time.Duration { return lease / 5 }

// silenceOf is after what silence a worker counts as dead. The rest of its lease is for
// those who find out and take over: the next look, and their order.
func silenceOf(lease time.Duration) time.Duration { return lease * 4 / 5 }

// graceOf is how long a worker that is alive may need to be heard of again.
func graceOf(lease time.Duration) time.Duration { return 2 * beatOf(lease) }

func newMembers(j *Journal, worker string, lease time.Duration, alone bool) *members {
	return &members{
		journal: j, worker: worker, lease: lease, alone: alone,
		others: map[string]member{}, left: map[string]bool{}, reached: time.Now(),
	}
}

// alive returns the workers that are alive, sorted.
func (m *members) alive() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now()
	var workers []string
	unsure := m.unsureLocked(now)
	for worker, other := range m.others {
		if unsure || now.Sub(other.heard) < silenceOf(other.lease) {
			workers = append(workers, worker)
		}
	}
	if !m.gone && !m.cutLocked(now) {
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

// unsureLocked says whether the engine has not answered for so long that it may be this
// process that hears of nobody.
func (m *members) unsureLocked(now time.Time) bool {
	return !m.alone && now.Sub(m.reached) > graceOf(m.lease)
}

// hear notes that a worker is alive, with its lease if it said so, and returns whether it
// is new.
func (m *members) hear(worker string, lease time.Duration) bool {
	if worker == "" || worker == m.worker || m.alone {
		return false
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.left[worker] {
		return false
	}
	other, known := m.others[worker]
	if !known {
		other.lease = m.lease
	}
	if lease > 0 && lease != other.lease {
		other.lease = lease
		if lease != m.lease {
			m.journal.logger.Warn("another worker has another lease: write the same on all replicas", "worker", worker, "its_lease", lease, "lease", m.lease)
		}
	}
	other.heard = time.Now()
	m.others[worker] = other
	return !known
}

// farewell notes that a worker left.
func (m *members) farewell(worker string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.left[worker] = true
	delete(m.others, worker)
}

// reach notes that the engine answered what was asked at a time. After a while in which
// it did not, everybody who is alive has the time to be heard of again, and no more: who
// died with the engine's node is replaced as soon as anybody.
func (m *members) reach(asked time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.unsureLocked(asked) {
		now := time.Now()
		for worker, other := range m.others {
			least := now.Add(graceOf(other.lease) - silenceOf(other.lease))
			if other.heard.Before(least) {
				other.heard = least
				m.others[worker] = other
			}
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
	lease, err := time.ParseDuration(message.Header.Get(headerLease))
	if err != nil {
		lease = 0 // an older version does not say it
	}
	if m.hear(worker, lease) {
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
	message.Header.Set(headerLease, m.lease.String())
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

// beat says that this process is there until the context is done, also while the engine
// does not answer.
func (m *members) beat(ctx context.Context) {
	ticker := time.NewTicker(beatOf(m.lease))
	defer ticker.Stop()
	for {
		m.say(false)
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// ask finds out, until the context is done, whether this process reaches the engine, and
// whether the followers do.
func (m *members) ask(ctx context.Context, followers ...*follower) {
	ticker := time.NewTicker(beatOf(m.lease))
	defer ticker.Stop()
	for {
		asked := time.Now()
		question, cancel := context.WithTimeout(ctx, min(m.lease/3, publishTimeout))
		var err error
		for _, f := range followers {
			// The leaders answer that, so that a node which is cut off itself does not.
			info, infoErr := f.stream.Info(question)
			if err = errors.Join(err, infoErr); infoErr == nil {
				f.check(info.State.LastSeq)
			}
		}
		cancel()
		if err == nil {
			m.reach(asked)
		}
		wait := ticker.C
		if err != nil && ctx.Err() == nil {
			wait = time.After(min(m.lease/10, time.Second))
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
	ticker := time.NewTicker(min(m.lease/20, 500*time.Millisecond))
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
	maps.DeleteFunc(m.others, func(_ string, other member) bool { return now.Sub(other.heard) > 10*other.lease })
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
