package gpio

import (
	"errors"
	"reflect"
	"slices"
	"testing"
	"time"

	"lintod/agent/base/config"
	"lintod/gpio/gesture"
	"lintod/gpio/led"
)

func parse(text string) (Config, error) {
	c := Defaults()
	err := config.Parse("lintod.toml", []byte(text), &c)
	return c, err
}

func TestConfigOfARealFile(t *testing.T) {
	c, err := parse(`
[gpio]
brightness = 0.5
dark_hours = "22:30-06:00"
allow_power = true

[[button]]
pin = 17                      # a number will do
action = "talk"
double_tap = "behavior say {\"value\": \"hello\"}"
long_hold = "shutdown"
long_hold_time = "10s"

[[button]]
pin = "P1_13"
active_high = true
pull = "down"
action = "mute"

[[led]]
kind = "apa102"
port = "SPI0.0"
count = 3
[led.patterns.listening]
colour = "green"
[led.patterns.idle]
shape = "breathe"
colour = "#001020"

[[led]]
kind = "rgb"
pins = [5, "GPIO6", "J8_33"]
`)
	if err != nil {
		t.Fatal(err)
	}
	if c.Buttons[0].Pin != "17" || c.Buttons[1].Pin.name() != "GPIO27" || c.LEDs[1].Pins[2].name() != "GPIO13" {
		t.Errorf("pins %v %v %v", c.Buttons[0].Pin, c.Buttons[1].Pin.name(), c.LEDs[1].Pins[2].name())
	}
	want := gesture.Config{
		Debounce: 25 * time.Millisecond, Hold: 600 * time.Millisecond, LongHold: 10 * time.Second,
		Gap: 300 * time.Millisecond, Taps: 2, Stuck: time.Minute,
	}
	if got := c.Buttons[0].gestures(); got != want {
		t.Errorf("gestures %+v", got)
	}
	f := c.LEDs[0].face()
	if l := f["listening"]; l.Shape != "meter" || l.Colour != (led.Colour{G: 255}) {
		t.Errorf("listening is %+v; want the default with another colour", l)
	}
	if i := f["idle"]; i.Shape != "breathe" || i.Period == 0 {
		t.Errorf("idle is %+v; want a period with its shape", i)
	}
}

func TestConfigProblems(t *testing.T) {
	const button = "[[button]]\npin = 17\n"
	const chain = "[[led]]\nkind = \"apa102\"\nport = \"SPI0.0\"\ncount = 3\n"
	tests := []struct {
		name, text string
		line       int
		key        string
	}{
		{"unknown preset", "[gpio]\npreset = \"fridge\"", 2, "gpio.preset"},
		{"brightness", "[gpio]\nbrightness = 30", 2, "gpio.brightness"},
		{"dark hours", "[gpio]\ndark_hours = \"night\"", 2, "gpio.dark_hours"},
		{"script without simulate", "[gpio]\nscript = \"a\"", 2, "gpio.script"},
		{"no pin", "[[button]]\naction = \"talk\"", 1, "button[1].pin"},
		{"power pin of the header", "[[button]]\npin = \"P1_2\"\naction = \"talk\"", 2, "button[1].pin"},
		{"nonsense pin", "[[button]]\npin = \"number 5\"\naction = \"talk\"", 2, "button[1].pin"},
		{"pin of a wrong type", "[[button]]\npin = true\naction = \"talk\"", 2, "button[1].pin"},
		{"no action", button, 1, "button[1].action"},
		{"unknown action", button + "tap = \"dance\"", 3, "button[1].tap"},
		{"behavior with bad JSON", button + "tap = \"behavior say hello\"", 3, "button[1].tap"},
		{"talk on a double tap", button + "double_tap = \"talk\"", 3, "button[1].double_tap"},
		{"link of a button that does not talk", button + "tap = \"stop\"\nlink = \"linto\"", 4, "button[1].link"},
		{"two actions of the press", button + "action = \"talk\"\npress = \"stop\"", 4, "button[1].press"},
		{"two actions of the tap", button + "action = \"mute\"\ntap = \"stop\"", 4, "button[1].tap"},
		{"power not allowed", button + "long_hold = \"shutdown\"", 3, "button[1].long_hold"},
		{"power too easy", "[gpio]\nallow_power = true\n" + button + "hold = \"reboot\"", 5, "button[1].hold"},
		{"pull", button + "action = \"talk\"\npull = \"sideways\"", 4, "button[1].pull"},
		{"debounce", button + "action = \"talk\"\ndebounce = \"2s\"", 4, "button[1].debounce"},
		{"long hold before hold", button + "action = \"talk\"\nlong_hold = \"stop\"\nlong_hold_time = \"1s\"\nhold_time = \"2s\"", 5, "button[1].long_hold_time"},
		{"same pin twice", button + "action = \"talk\"\n[[button]]\npin = \"P1_11\"\naction = \"stop\"", 5, "button[2].pin"},
		{"pin of the preset", "[gpio]\npreset = \"voice-bonnet\"\n[[button]]\npin = 5\naction = \"stop\"", 4, "button[1].pin"},
		{"LED on the preset's button", "[gpio]\npreset = \"voice-bonnet\"\n[[led]]\nkind = \"gpio\"\npin = 17", 5, "led[1].pin"},
		{"kind", "[[led]]\nkind = \"lava\"", 2, "led[1].kind"},
		{"rgb with two pins", "[[led]]\nkind = \"rgb\"\npins = [5, 6]", 3, "led[1].pins"},
		{"chain without count", "[[led]]\nkind = \"ws2812\"\nport = \"SPI0.0\"", 1, "led[1].count"},
		{"chain without port", "[[led]]\nkind = \"ws2812\"\ncount = 3", 1, "led[1].port"},
		{"WS2812 cannot be clocked by hand", "[[led]]\nkind = \"ws2812\"\ncount = 3\ndata = 5\nclock = 6", 1, "led[1].port"},
		{"apa102 with half a clock", "[[led]]\nkind = \"apa102\"\ncount = 3\ndata = 5", 1, "led[1].clock"},
		{"unknown pattern", chain + "[led.patterns.party]\nshape = \"spin\"", 5, "led[1].patterns.party"},
		{"unknown shape", chain + "[led.patterns.idle]\nshape = \"disco\"", 6, "led[1].patterns.idle.shape"},
		{"unknown colour", chain + "[led.patterns.idle]\ncolour = \"mauve\"", 6, "led[1].patterns.idle.colour"},
		{"hidden microphone", chain + "[led.patterns.listening]\nshape = \"off\"", 6, "led[1].patterns.listening.shape"},
		{"hidden meeting", chain + "[led.patterns.meeting]\ncolour = \"black\"", 6, "led[1].patterns.meeting.colour"},
		{"unknown key", "[gpio]\nbuttons = 3", 2, "gpio.buttons"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := parse(tt.text)
			var ps config.Problems
			if !errors.As(err, &ps) || len(ps) != 1 || ps[0].Line != tt.line || ps[0].Key != tt.key {
				t.Errorf("got %v; want line %d, %s", err, tt.line, tt.key)
			}
		})
	}
}

func TestDefaultsAreValid(t *testing.T) {
	if ps := Defaults().Validate(); len(ps) > 0 {
		t.Error(ps)
	}
	want := Config{GPIO: Settings{Brightness: 0.3, DarkBrightness: 0.03}}
	if got := Defaults(); !reflect.DeepEqual(got, want) {
		t.Errorf("defaults are %+v", got)
	}
}

func TestActions(t *testing.T) {
	tests := []struct {
		text string
		want Action
		bad  bool
	}{
		{"talk", Action{Verb: talk}, false},
		{"talk hold", Action{Verb: talkHold}, false},
		{" talk  tap ", Action{Verb: talkTap}, false},
		{"volume_up", Action{Verb: VolumeUp}, false},
		{"say Hello, it is  me", Action{Verb: Say, Text: "Hello, it is  me"}, false},
		{`behavior lamp {"on": true}`, Action{Verb: Behavior, Name: "lamp", Args: []byte(`{"on": true}`)}, false},
		{"behavior lamp", Action{Verb: Behavior, Name: "lamp"}, false},
		{"", Action{}, true},
		{"say", Action{}, true},
		{"behavior", Action{}, true},
		{"stop now", Action{}, true},
		{"talk loud", Action{}, true},
		{`behavior {"on": true}`, Action{}, true},
		{"behavior lamp [1]", Action{}, true},
		{"behavior lamp null", Action{}, true},
		{"talk_press", Action{}, true},
	}
	for _, tt := range tests {
		got, err := ParseAction(tt.text)
		if (err != nil) != tt.bad || !reflect.DeepEqual(got, tt.want) {
			t.Errorf("%q: %+v, %v", tt.text, got, err)
		}
	}
}

func FuzzParseAction(f *testing.F) {
	f.Add(`behavior lamp {"on": true}`)
	f.Fuzz(func(t *testing.T, text string) {
		a, err := ParseAction(text)
		if err == nil && a.Verb == "" {
			t.Errorf("%q became an empty action", text)
		}
	})
}

func TestPins(t *testing.T) {
	for text, want := range map[Pin]string{
		"GPIO17": "GPIO17", "gpio17": "GPIO17", "17": "GPIO17", "BCM17": "GPIO17", "P1_11": "GPIO17", "j8-11": "GPIO17",
		"PA6": "PA6", "SPI_CE1_N": "SPI_CE1_N", "017": "GPIO17", "P1_40": "GPIO21",
	} {
		if got, err := text.Canonical(); err != nil || got != want {
			t.Errorf("%s: %s, %v; want %s", text, got, err, want)
		}
	}
	for _, text := range []Pin{"GPIO54", "99", "", "P1_1", "P1_6", "P1_41", "P1_0", "1000", "-1", "a pin", "../x", "3V3"} {
		if got, err := text.Canonical(); err == nil {
			t.Errorf("%q was parsed as %s", text, got)
		}
	}
}

func TestHeaderHasEachGPIOOnce(t *testing.T) {
	positions := map[int]int{}
	for position, n := range header {
		if other, twice := positions[n]; twice {
			t.Errorf("GPIO%d is on %d and %d", n, position, other)
		}
		positions[n] = position
	}
	if len(header) != 28 { // the header has GPIO0 to GPIO27
		t.Errorf("%d GPIOs on the header", len(header))
	}
}

// A preset is the same board by its name and when written out.
func TestPresets(t *testing.T) {
	for _, p := range Presets() {
		t.Run(p.Name, func(t *testing.T) {
			if p.Title == "" {
				t.Error("no title")
			}
			spelled, err := parse(p.TOML())
			if err != nil {
				t.Fatalf("the encoded TOML is not a valid configuration: %v\n%s", err, p.TOML())
			}
			if !reflect.DeepEqual(spelled.Buttons, p.Config.Buttons) || !reflect.DeepEqual(spelled.LEDs, p.Config.LEDs) {
				t.Errorf("after writing and reading, the board differs:\n%s", p.TOML())
			}
			named, err := parse("[gpio]\npreset = \"" + p.Name + "\"")
			if err != nil {
				t.Fatal(err)
			}
			buttons, leds := named.Effective()
			if !reflect.DeepEqual(buttons, p.Config.Buttons) || !reflect.DeepEqual(leds, p.Config.LEDs) {
				t.Errorf("by name it has %v and %v", buttons, leds)
			}
		})
	}
}

func TestFileChangesAPreset(t *testing.T) {
	c, err := parse("[gpio]\npreset = \"respeaker-2mic\"\n[[button]]\npin = 17\naction = \"mute\"\n[[button]]\npin = 12\naction = \"talk\"\n[[led]]\nkind = \"gpio\"\npin = 13")
	if err != nil {
		t.Fatal(err)
	}
	buttons, leds := c.Effective()
	if len(buttons) != 2 || buttons[0].Action != "mute" || len(leds) != 1 || leds[0].Kind != "gpio" {
		t.Errorf("buttons %+v, LEDs %+v", buttons, leds)
	}
}

func TestSimulateAloneHasABoard(t *testing.T) {
	c, err := parse("[gpio]\nsimulate = true")
	if err != nil {
		t.Fatal(err)
	}
	buttons, leds := c.Effective()
	if len(buttons) == 0 || buttons[0].Action != "talk" || len(leds) != 1 {
		t.Errorf("buttons %+v, LEDs %+v", buttons, leds)
	}
	if names := presetNames(); !slices.Contains(names, simulatedPreset) {
		t.Errorf("presets %v", names)
	}
}
