package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"lintod/agent/base/printable"
	"lintod/agent/base/textfile"
	"lintod/agent/broker"
	"lintod/cmd/internal/cli"
	"lintod/cmd/lintoctl/fleet"
	"lintod/cmd/lintoctl/runs"
	"lintod/cmd/lintoctl/signing"
)

// A verb is a command that sends a request to the selected devices, in a run. To add one, add it to
// verbs.
type verb struct {
	group   string // group of the help; see groupUse
	parent  string // parent of a verb such as "config get"; usually ""
	use     string // the name and the arguments after the devices: "volume PERCENT"
	short   string
	long    string // default: short
	example string
	// takes separates the devices from the arguments: this number of words at the end are
	// arguments. With aText, the first word is the device and the rest the text, unless there is a
	// --.
	takes int
	flags func(*pflag.FlagSet)
	// orders returns the requests to each device. Its errors are usage errors.
	orders func(args []string) ([]runs.Order, error)
	// print prints the answer of a device that was reached; nil for verbs whose devices only
	// confirm. alone reports whether only one device was selected.
	print func(c *call, r runs.Result, alone bool) error
	// next, if set, returns the orders that follow the answer of a device, or nil at the end.
	next func(r runs.Result) []runs.Order
}

// full returns the name in a run: "config get".
func (v verb) full() string { return strings.TrimSpace(v.parent + " " + v.name()) }

// name returns the first word of use.
func (v verb) name() string {
	name, _, _ := strings.Cut(v.use, " ")
	return name
}

const (
	aText    = -1
	aCommand = -2 // requires a -- before it if devices are named
)

// order returns an order whose arguments marshal to an object.
func order(topic string, args any) runs.Order {
	raw, err := json.Marshal(args)
	if err != nil {
		panic(err) // structs and maps of strings and numbers always marshal
	}
	return runs.Order{Topic: topic, Args: raw, Ours: slices.Contains(ours, topic)}
}

// ours are the topics that LinTO does not have.
var ours = []string{"ask", "config", "counters", "doctor", "log", "reboot", "upgrade"}

// selectFlags are the flags that select devices.
type selectFlags struct {
	all         bool
	where, from string
	failedOf    string
	limit       int
}

func (s *selectFlags) register(f *pflag.FlagSet) {
	f.BoolVar(&s.all, "all", false, "select all known devices: those whose status the broker retains (status_retain), and those seen before")
	f.StringVar(&s.where, "where", "", "select devices that meet a `CONDITION`: 'firmware<1.2 and online'; fields are serial, firmware, address, language, volume, and age")
	f.StringVar(&s.from, "from", "", "select the serials that `FILE` lists, one per line; - means standard input")
	f.StringVar(&s.failedOf, "failed-of", "", "select the devices on which `RUN` did not succeed; last is the most recent run")
	f.IntVar(&s.limit, "limit", 0, "select at most `N` devices")
}

// given reports whether flags select devices.
func (s *selectFlags) given() bool {
	return s.all || s.where != "" || s.from != "" || s.failedOf != ""
}

func (s *selectFlags) selection(c *call, names []string) (fleet.Selection, error) {
	sel := fleet.Selection{Names: names, All: s.all, Limit: s.limit}
	if s.limit < 0 {
		return sel, cli.Usagef("-limit is %d; want a number of devices", s.limit)
	}
	if s.where != "" {
		where, err := fleet.ParseCondition(s.where)
		if err != nil {
			return sel, cli.Usagef("-where: %w", err)
		}
		sel.Where = where
	}
	if s.from != "" {
		serials, err := readSerials(s.from, c.stdin)
		if err != nil {
			return sel, cli.Usagef("-from: %w", err)
		}
		sel.Serials = serials
	}
	if s.failedOf != "" {
		r, err := runs.Open(c.runsDir(), s.failedOf)
		if err != nil {
			return sel, cli.Usagef("-failed-of: %w", err)
		}
		sel.Serials = slices.Concat(sel.Serials, r.Undone())
		if err := r.Close(); err != nil {
			return sel, err
		}
	}
	if err := sel.Validate(); err != nil {
		return sel, cli.Usagef("%w", err)
	}
	return sel, nil
}

// readSerials reads the first word of each line; # starts a comment. Lines of -json output are also
// accepted.
func readSerials(path string, stdin io.Reader) ([]string, error) {
	const limit = 64 << 20
	var raw []byte
	var err error
	if path == "-" {
		raw, err = io.ReadAll(io.LimitReader(stdin, limit))
	} else {
		raw, err = textfile.Read(path, limit)
	}
	serials := []string{}
	for line := range strings.Lines(string(textfile.Clean(raw))) {
		var object struct {
			Serial string `json:"serial"`
		}
		words := strings.Fields(line)
		switch {
		case len(words) == 0 || strings.HasPrefix(words[0], "#"):
		case words[0][0] == '{':
			if json.Unmarshal([]byte(line), &object) == nil && object.Serial != "" {
				serials = append(serials, object.Serial)
			}
		default:
			serials = append(serials, words[0])
		}
	}
	return serials, err
}

// runFlags are the flags of verbs.
type runFlags struct {
	selectFlags
	dryRun     bool
	canary     int
	then       []string
	wait       time.Duration
	maxFailed  int
	waitOnline time.Duration
	sign       string
	validity   time.Duration
}

func (r *runFlags) register(f *pflag.FlagSet) {
	r.selectFlags.register(f)
	f.BoolVar(&r.dryRun, "dry-run", false, "print which devices would receive what, and why others are left out, without sending anything")
	f.IntVar(&r.canary, "canary", 0, "start with `N` devices")
	f.StringArrayVar(&r.then, "then", nil, "next `STAGE`: a total number of devices, or a percentage such as 10%; may be given more than once; default 100% after -canary")
	f.DurationVar(&r.wait, "wait", 0, "`DURATION` between stages; devices that then no longer answer a ping count as failed")
	f.IntVar(&r.maxFailed, "max-failed", -1, "stop when more than `N` devices have failed, not counting those that are away; 0 with stages, and otherwise unlimited, unless given")
	f.Lookup("max-failed").DefValue = "" // its text contains the unit
	f.DurationVar(&r.waitOnline, "wait-online", 0, "`DURATION` to wait for devices that are away")
	r.registerSign(f)
}

func (r *runFlags) registerSign(f *pflag.FlagSet) {
	f.StringVar(&r.sign, "sign", "", "sign with `KEY`: a file with a private or public SSH key, the SHA256 fingerprint of a key in the agent, or auto: the key in the agent, or else ~/.ssh/id_ed25519 or id_ecdsa")
	f.DurationVar(&r.validity, "valid", signing.Validity, "`DURATION` for which a signature is valid; at most max_age in [signed] of the devices")
}

func (r *runFlags) stages() ([]runs.Stage, error) {
	var stages []runs.Stage
	if r.canary < 0 {
		return nil, cli.Usagef("-canary is %d; want a number of devices", r.canary)
	}
	if r.canary > 0 {
		stages = append(stages, runs.Stage{Count: r.canary})
		if len(r.then) == 0 {
			r.then = []string{"100%"}
		}
	}
	for _, text := range r.then {
		s, err := runs.ParseStage(text)
		if err != nil {
			return nil, cli.Usagef("-then: %w", err)
		}
		stages = append(stages, s)
	}
	return stages, nil
}

// run executes a verb.
func (c *call) run(v verb) *cobra.Command {
	var flags runFlags
	name := v.name()
	devices := " [SERIAL...]"
	if v.takes == aCommand || v.takes == aText {
		devices = " [SERIAL... --]"
	}
	cmd := &cobra.Command{
		Use: name + devices + strings.TrimPrefix(v.use, name), Short: v.short, Long: v.long, Example: v.example,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := c.check(); err != nil {
				return err
			}
			names, rest, err := v.split(cmd, args, flags.given())
			if err != nil {
				return err
			}
			if v.takes == aText && cmd.ArgsLenAtDash() < 0 && len(rest) > 1 {
				if _, device := fleet.Open(c.devicesFile()).Get(rest[0]); device {
					return cli.Usagef("%s is a device: put -- between the devices and the rest", clean(rest[0]))
				}
			}
			sel, err := flags.selection(c, names)
			if err != nil {
				return err
			}
			stages, err := flags.stages()
			if err != nil {
				return err
			}
			if len(stages) > 0 && !cmd.Flags().Changed("max-failed") {
				flags.maxFailed = 0
			}
			orders, err := v.orders(rest)
			if err != nil {
				return cli.Usagef("%w", err)
			}
			h, chosen, left, err := c.choose(cmd.Context(), sel, topics(orders)...)
			if err != nil {
				return err
			}
			defer h.close()
			if flags.dryRun {
				return c.printPlan(h, orders, chosen, left)
			}
			record, err := runs.Create(c.runsDir(), runs.Header{
				ID: runs.NewID(time.Now()), Began: time.Now(), Verb: v.full(), Scope: c.scope, Orders: orders, Devices: chosen,
			})
			if err != nil {
				return fmt.Errorf("save the run: %w", err)
			}
			return c.perform(cmd.Context(), h, v, &flags, stages, record, chosen)
		},
	}
	flags.register(cmd.Flags())
	if v.flags != nil {
		v.flags(cmd.Flags())
	}
	cmd.ValidArgsFunction = c.completeSerials
	return cmd
}

// topics returns the topics of the answers to orders.
func topics(orders []runs.Order) []string {
	list := []string{"pong"}
	for _, o := range orders {
		if o.Answer != "" {
			list = append(list, o.Answer)
		} else {
			list = append(list, o.Topic)
		}
	}
	return list
}

// split separates the names of devices from the arguments of the verb.
func (v verb) split(cmd *cobra.Command, args []string, selected bool) (names, rest []string, err error) {
	dash := cmd.ArgsLenAtDash()
	wrong := cli.Usagef("wrong number of arguments; want %s %s", cmd.Root().Name(), cmd.Use)
	switch {
	case v.takes == 0:
		return args, nil, nil
	case dash >= 0:
		names, rest = args[:dash], args[dash:]
	case v.takes > 0 && len(args) >= v.takes:
		names, rest = args[:len(args)-v.takes], args[len(args)-v.takes:]
	case v.takes == aCommand && !selected && len(args) > 0:
		return nil, nil, cli.Usagef("-- is missing between the devices and the command; want %s %s", cmd.Root().Name(), cmd.Use)
	case v.takes > 0 || v.takes == aCommand && !selected:
		return nil, nil, wrong
	case selected:
		rest = args
	case len(args) > 0:
		names, rest = args[:1], args[1:]
	}
	if v.takes > 0 && len(rest) != v.takes || len(rest) == 0 {
		return nil, nil, wrong
	}
	return names, rest, nil
}

// choose connects and selects devices. An empty selection is a usage error.
func (c *call) choose(ctx context.Context, sel fleet.Selection, topics ...string) (h *hub, chosen []string, left []fleet.Left, err error) {
	if sel.Empty() {
		return nil, nil, nil, cli.Usagef("no device is selected; name some, or use -all, -where, -from, or -failed-of")
	}
	if !sel.Known() {
		if chosen, left = sel.Choose(nil, time.Now()); len(chosen) == 0 {
			return nil, nil, nil, cli.Usagef("%w: the list is empty", fleet.ErrNothing)
		}
		h, err = c.open(ctx, chosen, topics...)
		return h, chosen, left, err
	}
	if h, err = c.open(ctx, nil, topics...); err != nil {
		return nil, nil, nil, err
	}
	h.settle(ctx)
	chosen, left = sel.Choose(h.known.All(), time.Now())
	switch {
	case len(chosen) > 0:
		return h, chosen, left, nil
	case len(left) > 0:
		err = cli.Usagef("%w: %d are left out; the first is %s (%s)", fleet.ErrNothing, len(left), clean(left[0].Serial), left[0].Why)
	default:
		err = cli.Usagef("%w: none of the %d known devices matches; name their serials once, or list them in a file (-from FILE). "+
			"Devices with status_retain = true in [linto] are found without that", fleet.ErrNothing, len(h.known.All()))
	}
	h.close()
	return nil, nil, nil, err
}

// printPlan prints what a run would do.
func (c *call) printPlan(h *hub, orders []runs.Order, chosen []string, left []fleet.Left) error {
	state := func(serial string) string {
		switch d, known := h.known.Get(serial); {
		case !known:
			return "status not known"
		case d.Online:
			return "says online"
		}
		return "says offline"
	}
	if c.json {
		for _, serial := range chosen {
			if err := c.emit(map[string]any{"v": 1, "serial": serial, "selected": true, "status": state(serial), "orders": orders}); err != nil {
				return err
			}
		}
		for _, l := range left {
			if err := c.emit(map[string]any{"v": 1, "serial": l.Serial, "selected": false, "why": l.Why}); err != nil {
				return err
			}
		}
		return nil
	}
	fmt.Fprintf(c.stdout, "%d would be asked:\n", len(chosen))
	for _, o := range orders {
		printable.Fprintf(c.stdout, "  %s/tolinto/SERIAL/%s  %s\n", c.scope, o.Topic, string(o.Args))
	}
	for _, serial := range chosen {
		printable.Fprintf(c.stdout, "  %s  %s\n", serial, state(serial))
	}
	if len(left) > 0 {
		fmt.Fprintf(c.stdout, "%d are left out:\n", len(left))
	}
	for _, l := range left {
		printable.Fprintf(c.stdout, "  %s  %s\n", l.Serial, l.Why)
	}
	return nil
}

// parallel is the number of concurrent requests.
const parallel = 1000

// perform sends the orders of a record to its devices, and prints the results.
func (c *call) perform(ctx context.Context, h *hub, v verb, flags *runFlags, stages []runs.Stage, record *runs.Record, devices []string) (err error) {
	defer func() { err = errors.Join(err, record.Close()) }()
	a := &asker{hub: h, id: record.ID, orders: record.Orders, waitOnline: flags.waitOnline}
	progress := newProgress(c.stderr, len(devices))
	alone := len(record.Devices) == 1
	engine := &runs.Engine{
		Stages: stages, Pause: flags.wait, MaxFailed: flags.maxFailed, Parallel: parallel,
		Ask: func(ctx, waiting context.Context, serial string, away func()) runs.Result {
			r := a.ask(ctx, waiting, serial, away)
			for n := 2; v.next != nil && r.State == runs.Done && ctx.Err() == nil; n++ {
				then := *a
				if then.id, then.orders = fmt.Sprintf("%s-%d", a.id, n), v.next(r); then.orders == nil {
					break
				}
				if err := c.show(v, a.id, r, alone); err != nil {
					break // nothing reads it
				}
				r = then.ask(ctx, waiting, serial, away)
			}
			return r
		},
		Check: func(ctx context.Context, serial string) error {
			said, stop := h.listen(serial)
			defer stop()
			_, err := a.reach(ctx, serial, said)
			if errors.Is(err, errSilent) {
				return errors.New("succeeded, but no longer answers a ping")
			}
			if err != nil {
				return fmt.Errorf("it did it, but its state after that is not known: %w", err)
			}
			return nil
		},
	}
	if flags.sign != "" {
		if a.sealer, err = c.sealer(ctx, flags, engine.Stage); err != nil {
			return err
		}
	}
	var trouble error
	engine.Done = func(r runs.Result) {
		progress.clear()
		if err := record.Add(r); err != nil && trouble == nil {
			trouble = fmt.Errorf("record the run: %w", err)
		}
		if err := c.show(v, record.ID, r, alone); err != nil && trouble == nil {
			trouble = err
		}
		progress.add(r.State)
	}
	engine.Run(ctx, devices)
	progress.clear()
	if trouble != nil {
		return trouble
	}
	return c.conclude(record, alone)
}

// show prints the answer of a device.
func (c *call) show(v verb, run string, r runs.Result, alone bool) error {
	c.printing.Lock()
	defer c.printing.Unlock()
	switch {
	case c.json:
		return c.emit(resultLine{1, run, r})
	case v.print != nil && r.State.Reached():
		return v.print(c, r, alone)
	}
	return nil
}

type resultLine struct {
	Version int    `json:"v"`
	Run     string `json:"run"`
	runs.Result
}

type summaryLine struct {
	Version int          `json:"v"`
	Run     string       `json:"run"`
	Verb    string       `json:"verb"`
	Done    int          `json:"done"`
	Of      int          `json:"of"`
	Groups  []runs.Group `json:"groups"`
}

// conclude prints the summary of a run and sets the exit status. If there is one device and it
// succeeded, it prints nothing.
func (c *call) conclude(record *runs.Record, alone bool) error {
	results := record.All()
	done, reached := 0, 0
	for _, r := range results {
		if r.State == runs.Done {
			done++
		}
		if r.State.Reached() {
			reached++
		}
	}
	switch {
	case c.explained:
	case reached == 0:
		c.status = statusUnreached
	case done < len(results):
		c.status = statusFailed
	}
	groups := runs.Summary(results)
	switch {
	case c.json:
		return c.emit(summaryLine{1, record.ID, record.Verb, done, len(results), groups})
	case alone && (done == 1 || c.explained):
		return nil
	case alone:
		return fmt.Errorf("%s: %s: %s", clean(results[0].Serial), results[0].State, results[0].Reason)
	}
	c.printSummary(record, groups, done, len(results))
	return nil
}

// printSummary prints a line for each kind of result.
func (c *call) printSummary(record *runs.Record, groups []runs.Group, done, of int) {
	fmt.Fprintf(c.stdout, "%d of %d done\n", done, of)
	for _, g := range groups {
		if g.State == runs.Done && g.Reason == "" {
			continue
		}
		more := ""
		if g.Count > len(g.Serials) {
			more = ", ..."
		}
		printable.Fprintf(c.stdout, "  %d %s: %s (%s%s)\n", g.Count, string(g.State), g.Reason, strings.Join(g.Serials, ", "), more)
	}
	if done < of {
		fmt.Fprintf(c.stdout, "\"lintoctl run retry %s\" retries the others\n", record.ID)
	}
}

// emit prints a line of JSON.
func (c *call) emit(v any) error {
	text, err := json.Marshal(v)
	if err == nil {
		_, err = fmt.Fprintf(c.stdout, "%s\n", printable.EscapeJSON(text))
	}
	if err != nil {
		return fmt.Errorf("print: %w", err)
	}
	return nil
}

// sealer opens the signing key.
func (c *call) sealer(ctx context.Context, flags *runFlags, group func() []string) (*signing.Sealer, error) {
	home, err := os.UserHomeDir()
	if err != nil {
		return nil, err
	}
	key, err := signing.Open(ctx, flags.sign, signing.Options{Agent: signing.AgentAddress(), Home: home, Ask: askSecret(c.stderr), Stderr: c.stderr})
	if err != nil {
		return nil, fmt.Errorf("-sign: %w", err)
	}
	return &signing.Sealer{Key: key, Validity: flags.validity, Group: func(string, json.RawMessage) []string { return group() }}, nil
}

// stateDir returns lintoctl's state directory: in $XDG_STATE_HOME or ~/.local/state, or the
// system's equivalent on macOS and Windows.
func stateDir() (string, error) {
	if dir := os.Getenv("XDG_STATE_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "lintoctl"), nil
	}
	if runtime.GOOS == "darwin" || runtime.GOOS == "windows" {
		dir, err := os.UserConfigDir()
		return filepath.Join(dir, "lintoctl"), err
	}
	home, err := os.UserHomeDir()
	return filepath.Join(home, ".local", "state", "lintoctl"), err
}

func (c *call) runsDir() string { return filepath.Join(c.state, "runs") }

// devicesFile returns the file of the known devices of a scope at a broker.
func (c *call) devicesFile() string {
	first := ""
	if len(c.broker.Broker) > 0 {
		first = c.broker.Broker[0]
	}
	return filepath.Join(c.state, "devices", broker.ClientID(c.scope+"@"+first)+".json")
}

// completeSerials makes the shell complete known serials, without using the network.
func (c *call) completeSerials(_ *cobra.Command, _ []string, begun string) ([]string, cobra.ShellCompDirective) {
	if c.useProfile() != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var list []string
	for _, d := range fleet.Open(c.devicesFile()).All() {
		if strings.HasPrefix(d.Serial, begun) {
			list = append(list, clean(d.Serial))
		}
	}
	return list, cobra.ShellCompDirectiveNoFileComp
}
