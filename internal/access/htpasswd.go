package access

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/bcrypt"
)

// lookAgain is how often an htpasswd file is looked at for changes, at most.
const lookAgain = time.Second

// maxPasswordFile bounds an htpasswd file.
const maxPasswordFile = 16 << 20

// Passwords are the users of an htpasswd file, which is read again when it
// changes. It is safe for concurrent use.
type Passwords struct {
	path string
	log  *slog.Logger

	mu     sync.Mutex
	looked time.Time
	stamp  stamp
	users  map[string]string // to their bcrypt hash
	decoy  string            // stands for the hash of a user that there is not
}

// stamp tells one state of a file from another.
type stamp struct {
	mod  time.Time
	size int64
}

// OpenPasswords reads an htpasswd file of bcrypt hashes. An error about what is
// in it begins with the file and the line.
func OpenPasswords(path string, log *slog.Logger) (*Passwords, error) {
	p := &Passwords{path: path, log: log}
	if log == nil {
		p.log = slog.New(slog.DiscardHandler)
	}
	return p, p.read()
}

// hash is user's bcrypt hash. For a user that is not there it is one that costs
// as much to compare and that no password has.
func (p *Passwords) hash(user string, now time.Time) (hash string, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if now.Sub(p.looked) >= lookAgain {
		p.looked = now
		p.refreshLocked()
	}
	if hash, ok = p.users[user]; ok {
		return hash, true
	}
	return p.decoy, false
}

// Has reports whether there is such a user.
func (p *Passwords) Has(user string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	_, ok := p.users[user]
	return ok
}

// refreshLocked takes in a file that has changed. One that can't be read, or is
// half-written, changes nothing.
func (p *Passwords) refreshLocked() {
	info, err := os.Stat(p.path)
	if err == nil && (stamp{info.ModTime(), info.Size()}) == p.stamp {
		return
	}
	if err == nil {
		err = p.readLocked()
	}
	if err != nil {
		p.log.Warn("htpasswd file not taken over; the users are those of before", "file", p.path, "err", err)
		return
	}
	p.log.Info("htpasswd file was read again", "file", p.path, "users", len(p.users))
}

func (p *Passwords) read() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.readLocked()
}

func (p *Passwords) readLocked() error {
	info, err := os.Stat(p.path) // before it is read: a change meanwhile is seen the next time
	if err != nil {
		return err
	}
	if info.Size() > maxPasswordFile {
		return fmt.Errorf("%s has more than %d bytes", p.path, maxPasswordFile)
	}
	text, err := os.ReadFile(p.path)
	if err != nil {
		return err
	}
	users, cost, err := parsePasswords(p.path, text)
	if err != nil {
		return err
	}
	decoy, err := bcrypt.GenerateFromPassword([]byte("of nobody"), cost)
	if err != nil {
		return fmt.Errorf("%s: %w", p.path, err)
	}
	p.stamp, p.users, p.decoy = stamp{info.ModTime(), info.Size()}, users, string(decoy)
	return nil
}

// parsePasswords gives the hash of each user, and the cost of most of them.
func parsePasswords(path string, text []byte) (users map[string]string, cost int, err error) {
	users = map[string]string{}
	costs := map[int]int{}
	in := bufio.NewScanner(bytes.NewReader(text))
	in.Buffer(nil, 64<<10)
	for n := 1; in.Scan(); n++ {
		line := strings.TrimSpace(in.Text())
		if line == "" || line[0] == '#' {
			continue
		}
		user, hash, ok := strings.Cut(line, ":")
		c, berr := bcrypt.Cost([]byte(hash))
		switch _, twice := users[user]; {
		case !ok || user == "":
			err = errors.Join(err, fmt.Errorf("%s:%d: want USER:HASH, as htpasswd writes it", path, n))
		case berr != nil || len(hash) != 60:
			err = errors.Join(err, fmt.Errorf("%s:%d: the password of %q is not a bcrypt hash; make one with htpasswd -B", path, n, user))
		case twice:
			err = errors.Join(err, fmt.Errorf("%s:%d: %q is there twice", path, n, user))
		default:
			users[user] = hash
			costs[c]++
		}
	}
	if serr := in.Err(); serr != nil {
		err = errors.Join(err, fmt.Errorf("%s: %w", path, serr))
	}
	cost = bcrypt.DefaultCost
	for c, n := range costs {
		if n > costs[cost] {
			cost = c
		}
	}
	return users, cost, err
}
