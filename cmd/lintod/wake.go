package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"lintod/agent"
	"lintod/agent/base/printable"
	"lintod/agent/control"
	"lintod/audio"
	"lintod/audio/resample"
	"lintod/audio/wake"
	"lintod/audio/wake/models"
	"lintod/audio/wav"
	"lintod/cmd/internal/cli"
)

func (c *call) wake() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "wake list|get|try [NAME] [FILE...]",
		Short: "list, download, and test wake word models",
		Long: `Wake word models for engine = "microwakeword".

"list" prints the models on this device, and those that can be downloaded.
"get NAME" downloads one over TLS, and prints its author and licence. HTTPS_PROXY
sets a proxy. No other part of lintod downloads models.
"try" prints the models' scores, from 0 to 1, while you speak to the running
daemon, or for WAV files: for the word NAME, or for the configured words.`,
		Example: `  lintod wake list
  sudo lintod wake get okay_nabu
  lintod wake try okay_nabu
  lintod wake try okay_nabu recording.wav`,
		ValidArgsFunction: func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			switch {
			case len(args) == 0:
				return []string{"list", "get", "try"}, cobra.ShellCompDirectiveNoFileComp
			case len(args) == 1 && args[0] != "list":
				return offered(), cobra.ShellCompDirectiveDefault
			}
			return nil, cobra.ShellCompDirectiveDefault
		},
	}
	cmd.Args = func(_ *cobra.Command, args []string) error {
		switch {
		case len(args) == 1 && args[0] == "list", len(args) == 2 && args[0] == "get", len(args) > 0 && args[0] == "try":
			return nil
		}
		return cli.Usagef("usage: lintod wake list, lintod wake get NAME, or lintod wake try [NAME] [FILE...]")
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		switch args[0] {
		case "list":
			return c.listModels()
		case "get":
			return c.getModel(cmd.Context(), args[1])
		}
		return c.tryWords(cmd.Context(), args[1:])
	}
	return cmd
}

// offered returns the words whose models can be downloaded.
func offered() []string {
	var names []string
	for _, o := range models.Offers() {
		names = append(names, o.Name)
	}
	return names
}

// wakeConfig returns the configuration, or the defaults if there is none yet: models can be listed
// and tested before a device is set up.
func (c *call) wakeConfig() agent.Config {
	cfg, err := agent.LoadConfig(c.config)
	if err != nil {
		fmt.Fprintln(c.stderr, "The configuration is missing or invalid, so the defaults are used; run lintod check for details.")
		return agent.Defaults()
	}
	return cfg
}

func (c *call) listModels() error {
	cfg := c.wakeConfig()
	t := tabwriter.NewWriter(c.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "NAME\tPHRASE\tLANGUAGES\tAUTHOR\tLOCATION")
	here := map[string]bool{}
	for _, m := range models.List(cfg.Wake.Models) {
		here[m.Name] = true
		where := filepath.Dir(m.Path)
		if m.Err != nil {
			where = "cannot be used: " + m.Err.Error()
		}
		printable.Fprintf(t, "%s\t%s\t%s\t%s\t%s\n", m.Name, orDash(m.Manifest.WakeWord != "", m.Manifest.WakeWord),
			orDash(len(m.Manifest.Languages) > 0, strings.Join(m.Manifest.Languages, " ")), orDash(m.Manifest.Author != "", m.Manifest.Author), where)
	}
	for _, o := range models.Offers() {
		if !here[o.Name] {
			fmt.Fprintf(t, "%s\t%s\t%s\t%s\tsudo lintod wake get %s\n", o.Name, o.Phrase, o.Languages, o.Author, o.Name)
		}
	}
	return t.Flush()
}

func (c *call) getModel(ctx context.Context, name string) error {
	offer, ok := models.Offered(name)
	if !ok {
		return fmt.Errorf("unknown model %q; lintod wake list prints the available models", name)
	}
	dir := c.wakeConfig().Wake.Models[0]
	if err := c.download(ctx, dir, offer); err != nil {
		return err
	}
	_, err := fmt.Fprintf(c.stdout, "Saved to %s. To use it:\n\n[wake]\nengine = \"microwakeword\"\n[[wake.word]]\nname = %q\n%s", dir, name, action(name))
	return err
}

func (c *call) download(ctx context.Context, dir string, o models.Offer) error {
	fmt.Fprintf(c.stdout, "%s, phrase %q, by %s, licence %s\n", o.Name, o.Phrase, o.Author, o.License)
	err := models.Getter{Dir: dir}.Get(ctx, o)
	if errors.Is(err, fs.ErrPermission) && os.Geteuid() != 0 {
		return fmt.Errorf("%w; run: sudo lintod wake get %s", err, o.Name)
	}
	return err
}

// provideModel downloads a model unless it is on this device.
func (c *call) provideModel(ctx context.Context, name string) error {
	dirs := c.wakeConfig().Wake.Models
	if _, err := models.Find(dirs, name); err == nil {
		return nil
	}
	offer, _ := models.Offered(name)
	return c.download(ctx, dirs[0], offer)
}

// action returns the additional configuration line of the word that stops the device.
func action(name string) string {
	if name == wake.ActionStop {
		return "action = \"stop\"\n"
	}
	return ""
}

// tryWords treats a first argument that is not a WAV file as the name of a word.
func (c *call) tryWords(ctx context.Context, args []string) error {
	name := ""
	if len(args) > 0 && !strings.HasSuffix(strings.ToLower(args[0]), ".wav") {
		name, args = args[0], args[1:]
	}
	cfg := c.wakeConfig()
	if len(args) == 0 {
		return c.tryMicrophone(ctx, cfg, name)
	}
	for _, path := range args {
		if err := c.tryFile(ctx, cfg.Wake, name, path); err != nil {
			return err
		}
	}
	return nil
}

// tryMicrophone listens through the daemon, which has the microphone open.
func (c *call) tryMicrophone(ctx context.Context, cfg agent.Config, name string) error {
	fmt.Fprintln(c.stderr, "Say the word; Ctrl-C stops. A line is printed every 0.1 s while a score is above 0, otherwise every second.")
	quiet := 0
	err := control.Stream(ctx, cfg.Device.Socket, "wake", agent.WakeArgs{Name: name}, func(raw json.RawMessage) error {
		var scores []wake.Score
		if err := json.Unmarshal(raw, &scores); err != nil {
			return fmt.Errorf("invalid answer of the daemon: %w", err)
		}
		if quiet++; unsure(scores) && quiet < 10 {
			return nil
		}
		quiet = 0
		c.printScores(time.Now().Format("15:04:05.0"), scores)
		return nil
	})
	if ctx.Err() != nil { // the usual end
		err = nil
	}
	return err
}

// unsure reports whether every model's score is 0.
func unsure(scores []wake.Score) bool {
	for _, s := range scores {
		if s.Score >= 0.05 {
			return false
		}
	}
	return true
}

func (c *call) printScores(at string, scores []wake.Score) {
	for _, s := range scores {
		heard := ""
		if s.Heard {
			heard = "  detected"
		}
		line := fmt.Sprintf("%s  %4.0f dB  %s %.2f of %.2f %s%s", at, s.Level, s.Name, s.Score, s.Threshold, strings.Repeat("#", int(20*s.Score)), heard)
		printable.Fprintf(c.stdout, "%s\n", strings.TrimSpace(line))
	}
}

func (c *call) tryFile(ctx context.Context, cfg wake.Config, name, path string) error {
	trial, err := wake.NewTrial(cfg, name)
	if err != nil {
		return err
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	sound, err := wav.NewReader(f)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	best := make([]wake.Score, len(trial.Words))
	at := make([]time.Duration, len(trial.Words))
	var now time.Duration
	heard := make([][]string, len(trial.Words))
	var frame audio.Frame
	hear := func() {
		now += audio.FrameTime
		for i, s := range trial.Hear(&frame) {
			if s.Heard {
				heard[i] = append(heard[i], fmt.Sprintf("%.1f s", now.Seconds()))
			}
			if s.Score > best[i].Score {
				at[i] = now
			}
			s.Score = max(s.Score, best[i].Score)
			best[i] = s
		}
	}
	if err := frames(ctx, sound, &frame, hear); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	for i, s := range best {
		switch sensitivity, ok := trial.Sensitivity(i, s.Score); {
		case len(heard[i]) > 0:
			printable.Fprintf(c.stdout, "%s: %s detected at %s (score %.2f, threshold %.2f)\n", path, s.Name, strings.Join(heard[i], ", "), s.Score, s.Threshold)
		case ok && s.Score > 0.05:
			printable.Fprintf(c.stdout, "%s: %s not detected: score %.2f at %.1f s, threshold %.2f; use sensitivity = %.2f\n", path, s.Name, s.Score, at[i].Seconds(), s.Threshold, sensitivity)
		default:
			printable.Fprintf(c.stdout, "%s: %s not detected: score %.2f, threshold %.2f\n", path, s.Name, s.Score, s.Threshold)
		}
	}
	return nil
}

// frames yields each frame of a sound, followed by half a second of silence.
func frames(ctx context.Context, sound *wav.Reader, frame *audio.Frame, hear func()) error {
	convert := resample.New(sound.Rate(), audio.CaptureRate)
	in := make([]int16, 4096)
	var pcm []int16
	for {
		n, err := sound.Read(in)
		pcm = convert.Process(pcm, in[:n])
		if errors.Is(err, io.EOF) {
			pcm = append(convert.Flush(pcm), make([]int16, audio.CaptureRate/2)...)
		} else if err != nil {
			return err
		}
		for len(pcm) >= audio.FrameSamples {
			pcm = pcm[copy(frame.PCM[:], pcm):]
			hear()
		}
		if err != nil || ctx.Err() != nil {
			return ctx.Err()
		}
		pcm = append([]int16(nil), pcm...)
	}
}
