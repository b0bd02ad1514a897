'use strict'
const $ = id => document.getElementById(id)
const kiosk = location.hash.startsWith('#kiosk')
const silence = -60 // dBFS: shown as zero by the level meter

function el(tag, props = {}, ...children) {
  const e = Object.assign(document.createElement(tag), props)
  e.append(...children)
  return e
}

function show(e, text) {
  e.hidden = !text
  if (e.textContent !== (text || '')) e.textContent = text || '' // a screen reader reads every change
}

// Storage may be disabled; the page then works until it is reloaded.
const kept = {
  get(name) { try { return localStorage.getItem('lintod.' + name) } catch { return null } },
  set(name, value) { try { localStorage.setItem('lintod.' + name, value) } catch { /* see above */ } },
}

// ---- words

let lang = 'en'
let view = null // the state of the device as of the last event
let session = kept.get('session')

const t = (key, with_) => (words[lang][key] ?? words.en[key] ?? key).replace('{}', with_)

function chooseWords() {
  const wanted = [kept.get('words'), ...(kiosk && view ? [view.now.language] : navigator.languages)]
  const next = wanted.map(w => (w || '').split('-')[0]).find(w => words[w]) || 'en'
  if (next === lang && document.body.dataset.words) return
  lang = next
  document.documentElement.lang = lang
  document.body.dataset.words = lang
  for (const e of document.querySelectorAll('[data-text]')) e.textContent = t(e.dataset.text)
  for (const e of document.querySelectorAll('[data-label]')) e.setAttribute('aria-label', t(e.dataset.label))
  $('words-in').replaceChildren(el('option', { value: '', textContent: t('auto') }), ...Object.keys(words).map(w => el('option', { value: w, textContent: words[w].name, lang: w })))
  $('words-in').value = kept.get('words') || ''
  $('legend').replaceChildren(...['listenStage', 'waitStage', 'voiceStage', 'speakStage'].map((key, i) => el('li', {}, el('i', { className: 's' + (i + 1) }), t(key))))
  if (view) render()
  if (report) renderReport()
}

// ---- the device

async function post(path, body) {
  const response = await fetch(path, {
    method: 'POST', body: JSON.stringify(body), keepalive: path === '/do/release',
    headers: { 'Content-Type': 'application/json', Authorization: 'Bearer ' + session },
  })
  const answer = await response.json()
  if (response.status === 401) lock()
  if (!response.ok) throw new Error(answer.error)
  return answer.result
}

// call executes a command and shows errors.
async function call(command, args = {}) {
  try {
    return await post('/do/' + command, args)
  } catch (err) {
    toast(err.message)
  }
}

let toastTimer
function toast(text) {
  show($('toast'), text)
  clearTimeout(toastTimer)
  toastTimer = setTimeout(() => show($('toast'), ''), 8000)
}

// lock shows how to get a session. A kiosk exits, and its unit starts a new one.
function lock() {
  $('app').hidden = true
  $('locked').hidden = false
  if (kiosk) window.close()
}

async function enter() {
  const key = new URLSearchParams(location.hash.slice(1)).get('key')
  document.body.classList.toggle('kiosk', kiosk)
  chooseWords()
  $('app').hidden = !key && !session // visible before the session is open
  if (key) {
    history.replaceState(null, '', kiosk ? '#kiosk' : location.pathname)
    try {
      session = await post('/session', { key })
      kept.set('session', session)
    } catch (err) {
      if (!session) toast(err.message)
    }
  }
  if (!session) return lock()
  follow()
  if (!kiosk) poll()
}

// follow shows what the device sends, and reconnects when the connection ends, also after
// sleep, when it is found to be silent.
async function follow() {
  for (let pause = 500; $('locked').hidden; pause = Math.min(2 * pause, 10000)) {
    const stop = new AbortController()
    let alive
    const heard = () => { clearTimeout(alive); alive = setTimeout(() => stop.abort(), 40000) }
    try {
      heard()
      const response = await fetch('/events', { headers: { Authorization: 'Bearer ' + session }, signal: stop.signal })
      if (response.status === 401) return lock()
      if (!response.ok) throw new Error(response.statusText)
      const reader = response.body.pipeThrough(new TextDecoderStream()).getReader()
      for (let text = ''; ;) {
        const { done, value } = await reader.read()
        if (done) break
        heard()
        pause = 500
        const events = (text + value).split('\n\n')
        text = events.pop()
        for (const e of events) take(e)
      }
    } catch { /* retried below */ }
    clearTimeout(alive)
    lost()
    await new Promise(wake => {
      setTimeout(wake, pause)
      addEventListener('online', wake, { once: true })
    })
  }
}

function take(event) {
  const match = /^event: (\w+)\ndata: (.*)$/.exec(event)
  if (!match) return
  if (match[1] === 'level') return level(Number(match[2]))
  view = JSON.parse(match[2])
  chooseWords()
  render()
}

function lost() {
  document.documentElement.dataset.look = 'offline'
  show($('state'), t('lost'))
  document.body.dataset.connected = ''
}

// ---- the face

const eyes = {
  open: [false, 'M61 86a9 13 0 1 0 18 0a9 13 0 1 0-18 0', 'M121 86a9 13 0 1 0 18 0a9 13 0 1 0-18 0'],
  wide: [false, 'M57 84a13 17 0 1 0 26 0a13 17 0 1 0-26 0', 'M117 84a13 17 0 1 0 26 0a13 17 0 1 0-26 0'],
  happy: [true, 'M56 92q14-22 28 0', 'M116 92q14-22 28 0'],
  closed: [true, 'M56 86q14 14 28 0', 'M116 86q14 14 28 0'],
  sad: [true, 'M56 92l26-10', 'M118 82l26 10'],
  angry: [true, 'M56 78l26 14', 'M118 92l26-14'],
  wink: [true, 'M56 92q14-22 28 0', 'M116 86h28'],
  odd: [true, 'M56 86h28', 'M118 74q12 20 24 0'],
}
const mouths = {
  flat: 'M80 132h40', smile: 'M70 124q30 28 60 0', grin: 'M68 120q32 52 64 0z', sad: 'M72 140q28-26 56 0',
  open: 'M87 130a13 15 0 1 0 26 0a13 15 0 1 0-26 0z', wavy: 'M70 132q10-14 20 0t20 0t20 0', small: 'M90 132q10 8 20 0',
}
// The emotions that servers send. Unknown ones look neutral.
const emotions = {
  neutral: 'open small', happy: 'happy smile', laughing: 'happy grin', funny: 'happy grin', sad: 'sad sad', crying: 'closed sad', angry: 'angry flat',
  loving: 'happy smile', embarrassed: 'closed wavy', surprised: 'wide open', shocked: 'wide open', thinking: 'open flat', winking: 'wink smile', cool: 'open smile',
  relaxed: 'closed smile', delicious: 'happy grin', kissy: 'wink open', confident: 'open smile', sleepy: 'closed flat', silly: 'odd grin', confused: 'odd wavy',
  excited: 'wide grin', circle_xmark: 'sad flat',
}

function renderLook(look, emotion) {
  document.documentElement.dataset.look = look
  const state = { error: 'sad flat', deaf: 'closed flat', muted: 'closed flat', offline: 'closed flat', connecting: 'open flat', thinking: 'open flat' }[look]
  const [eye, mouth] = (emotions[emotion] || state || emotions.neutral).split(' ')
  const [line, left, right] = eyes[eye]
  $('eyes').setAttribute('class', line ? 'line' : '')
  $('eye-left').setAttribute('d', left)
  $('eye-right').setAttribute('d', right)
  $('mouth').setAttribute('d', mouths[mouth])
  $('mouth').setAttribute('class', mouth === 'grin' || mouth === 'open' ? 'full' : '')
}

function render() {
  const { now, face, picture } = view
  document.body.dataset.connected = 'yes'
  renderLook(now.look, face.emotion)
  show($('serial'), now.serial)
  document.title = now.serial + ' – lintod'
  show($('state'), t(now.state === 'conversing' ? 'conversing' : now.look))
  renderShown(face.display || {})
  const covered = !$('shown').hidden
  const marks = [
    [now.flags.meeting, 'recording', t('recording')],
    [now.look === 'listening' && covered, 'bad', t('listening')],
    [now.flags.dictating && (now.look !== 'dictating' || covered), 'bad', t('dictation')],
    [now.flags.muted && now.look !== 'muted', 'bad', t('muted')],
    [now.flags.deaf && now.look !== 'deaf', 'bad', t('deaf')],
    [now.flags.offline && now.look !== 'offline' && now.look !== 'connecting', 'warn', t('offline')],
    [!now.flags.offline && now.away, 'warn', t('away', (now.away || []).join(', '))],
    [now.wake_away, 'warn', t('wakeAway')],
    [now.refused_configuration, 'warn', t('outdated')],
  ].filter(m => m[0]).map(m => el('li', { className: m[1], textContent: m[2] }))
  $('marks').replaceChildren(...marks)
  $('marks').hidden = marks.length === 0

  const talking = now.state !== 'idle' && (face.heard || face.partial || face.sentences) // with another platform
  const code = talking ? null : now.activation
  $('activation').hidden = !code
  renderCard(now, code ? '' : picture)
  $('look').style.display = code || !$('picture').hidden ? 'none' : ''
  if (code) {
    show($('activation-say'), code.code ? t(code.address ? 'enterCodeAt' : 'enterCode') : code.message)
    show($('code'), code.code)
    show($('address'), code.code ? code.address || code.message : '')
  }
  $('talked').hidden = !!code // nothing else is shown then
  show($('heard'), face.heard || face.partial)
  $('heard').classList.toggle('partial', !face.heard)
  renderAnswer(face.sentences || [])
  show($('problem'), face.problem)

  const muted = now.flags.muted
  $('mute').setAttribute('aria-pressed', muted)
  show($('mute'), t(muted ? 'unmute' : 'mute'))
  show($('volume-now'), now.volume + ' %')
  if (document.activeElement !== $('volume')) $('volume').value = now.volume
  const list = now.languages.includes(now.language) ? now.languages : [now.language, ...now.languages]
  if ($('language').dataset.list !== list.join()) {
    $('language').dataset.list = list.join()
    $('language').replaceChildren(...list.map(tag => el('option', { value: tag, textContent: tag })))
  }
  if (document.activeElement !== $('language')) $('language').value = now.language
}

// renderCard shows what a card plays, or the download for a card. A picture replaces the
// face outside of conversations.
function renderCard(now, picture) {
  const { card, download } = now
  const wanted = download && (download.name || download.skill)
  const name = wanted ? now.look === 'downloading' ? wanted : t('downloadingCard', wanted) : card ? card.name + (card.of > 1 ? ` · ${card.track} / ${card.of}` : '') + (card.paused ? ` · ${t('paused')}` : '') : ''
  show($('card-name'), name)
  $('card').hidden = !name
  $('progress').hidden = !download
  if (download) $('progress').value = download.percent
  $('progress').setAttribute('aria-label', name)
  $('picture').hidden = !picture || now.state !== 'idle' || broken === picture
  if (picture && $('picture').getAttribute('src') !== picture) $('picture').src = picture
  $('picture').alt = card ? card.name : ''
}
let broken = '' // path of a picture that cannot be shown
$('picture').addEventListener('error', () => { broken = $('picture').getAttribute('src'); if (view) render() })

// renderAnswer adds new sentences.
function renderAnswer(sentences) {
  const box = $('answer')
  const shown = [...box.children].map(e => e.textContent)
  if (shown.some((text, i) => text !== sentences[i])) box.replaceChildren()
  box.append(...sentences.slice(box.children.length).map(text => el('span', { textContent: text })))
  box.hidden = sentences.length === 0
  if (kiosk) box.lastElementChild?.scrollIntoView({ block: 'nearest' })
}

let hidden = '' // the page that the user has closed
function renderShown(display) {
  const address = display.page || display.url || ''
  show($('text'), display.text || (display.refused ? t('notAllowed', display.refused) : ''))
  const old = $('shown').querySelector('iframe')
  $('shown').hidden = !address || address === hidden
  if (old && old.dataset.address === address && !$('shown').hidden) return
  old?.remove()
  if ($('shown').hidden) return
  const frame = el('iframe', { title: t('framed') })
  frame.dataset.address = address
  frame.referrerPolicy = 'no-referrer'
  // Only origins that the owner has allowed; HTML from the platform cannot run scripts.
  frame.setAttribute('sandbox', display.url ? 'allow-scripts allow-same-origin' : '')
  frame.src = address
  $('shown').prepend(frame)
}

function level(dBFS) {
  const part = Math.max(0, Math.min(1, (dBFS - silence) / -silence))
  $('level').setAttribute('aria-valuenow', Math.max(silence, Math.min(0, dBFS)))
  $('level').firstElementChild.style.transform = `scaleX(${part.toFixed(2)})`
  $('halo').style.transform = `scale(${(1 + part / 5).toFixed(2)})`
}

// ---- controls

// The talk button acts as the device's: when it was held, releasing it ends the utterance;
// when it was tapped, silence does.
const tap = 350 // ms
let pressed = 0
function press() {
  if (pressed) return
  pressed = performance.now()
  call('press')
}
function release() {
  if (!pressed) return
  const held = performance.now() - pressed
  pressed = 0
  call(held < tap ? 'letgo' : 'release')
}
$('talk').addEventListener('pointerdown', e => { if (e.button === 0) { $('talk').setPointerCapture(e.pointerId); press() } })
for (const name of ['pointerup', 'pointercancel', 'blur']) $('talk').addEventListener(name, release)
$('talk').addEventListener('contextmenu', e => e.preventDefault()) // on a long touch
$('talk').addEventListener('keydown', e => { if ((e.key === ' ' || e.key === 'Enter') && !e.repeat) { e.preventDefault(); press() } })
$('talk').addEventListener('keyup', e => { if (e.key === ' ' || e.key === 'Enter') { e.preventDefault(); release() } })
// A screen reader clicks without pointer or key events.
$('talk').addEventListener('click', e => { if (e.detail === 0 && !pressed && e.pointerType !== 'mouse') call('talk') })
addEventListener('pagehide', release)

$('stop').addEventListener('click', () => call('stop'))
addEventListener('keydown', e => { if (e.key === 'Escape') $('shown').hidden ? call('stop') : hide() })
$('mute').addEventListener('click', () => call('mute', { on: !view.now.flags.muted }))
const setVolume = percent => call('volume', { percent: Math.max(0, Math.min(100, percent)) })
$('softer').addEventListener('click', () => setVolume(view.now.volume - 10))
$('louder').addEventListener('click', () => setVolume(view.now.volume + 10))
$('volume').addEventListener('change', e => setVolume(Number(e.target.value)))
$('language').addEventListener('change', e => call('language', { tag: e.target.value }))
$('words-in').addEventListener('change', e => { kept.set('words', e.target.value); chooseWords() })
function hide() {
  hidden = $('shown').querySelector('iframe')?.dataset.address
  if (view) render()
}
$('hide').addEventListener('click', hide)

// form sends texts, one at a time.
function form(name, done) {
  $(name + '-form').addEventListener('submit', async e => {
    e.preventDefault()
    const text = $(name).value.trim()
    const button = e.target.querySelector('button')
    if (!text || button.disabled) return
    button.disabled = true
    const result = await call(name, { text })
    button.disabled = false
    if (result !== undefined) { $(name).value = ''; done(result) }
  })
}
form('ask', reply => { $('ask-answer').textContent = [reply.text, reply.error].filter(Boolean).join(' – ') })
form('say', () => {})

// ---- the console

let report = null // what `lintod status -json` prints
async function poll() {
  for (; $('locked').hidden; await new Promise(wake => setTimeout(wake, 2000))) {
    if (document.hidden) continue
    try {
      report = await post('/do/status', {})
      renderLog(await post('/do/log', {}))
      renderReport()
    } catch { /* the face shows the lost connection */ }
  }
}

function renderReport() {
  renderTurns(report.turns)
  $('links').replaceChildren(...Object.entries(report.links).sort().map(([name, link]) => {
    const title = el('h3', {}, el('span', { className: link.connected ? 'dot on' : 'dot' }), name + ': ' + t(link.connected ? 'connected' : 'notConnected'))
    const counters = Object.entries(flat(report[name] || {})).map(([key, n]) => el('div', {}, el('dt', { textContent: key }), el('dd', { textContent: n })))
    return el('div', {}, title, el('p', { textContent: link.line || '' }), el('dl', {}, ...counters))
  }))
  $('parts').replaceChildren(...Object.entries(report.parts).sort().map(([name, p]) => el('tr', {},
    el('th', { scope: 'row', textContent: name }), el('td', { textContent: t(p.running ? 'yes' : 'no') }),
    el('td', { textContent: p.restarts }), el('td', { textContent: p.last || '' }))))
}

// flat returns the numbers of an object and of its nested objects. Durations are in nanoseconds.
const durations = ['jitter', 'target', 'delay']
function flat(o, prefix = '', out = {}) {
  for (const [key, v] of Object.entries(o)) {
    if (typeof v === 'number') out[(prefix + key).replaceAll('_', ' ')] = durations.includes(key) ? Math.round(v / 1e6) + ' ms' : v
    else if (v && typeof v === 'object' && !Array.isArray(v)) flat(v, prefix + key + ' ', out)
  }
  return out
}

const milestones = { frame: 'first_frame', voice: 'heard', end: 'finished', request: 'requested', answer: 'answered', sound: 'sounded', total: 'closed' }
const svg = (tag, attributes) => {
  const e = document.createElementNS('http://www.w3.org/2000/svg', tag)
  for (const [name, value] of Object.entries(attributes)) e.setAttribute(name, value)
  return e
}

// renderTurns draws the timing of each turn, all on one scale.
function renderTurns(turns) {
  const last = turns.slice(-8).reverse().map(turn => {
    const since = key => turn[key] ? (Date.parse(turn[key]) - Date.parse(turn.triggered)) / 1000 : undefined
    return { turn, at: Object.fromEntries(Object.entries(milestones).map(([name, key]) => [name, since(key)]).filter(m => m[1] !== undefined)) }
  })
  const longest = Math.max(1, ...last.map(r => r.at.total ?? 0))
  const x = seconds => (100 * seconds / longest).toFixed(2)
  $('turns').replaceChildren(...last.map(({ turn, at }) => {
    const ordered = Object.entries(at).sort((a, b) => a[1] - b[1])
    const told = ordered.map(([name, seconds]) => `${t(name)} ${seconds.toFixed(2)} s`).join(' · ')
    const bar = svg('svg', { viewBox: '0 0 100 10', preserveAspectRatio: 'none', role: 'img' })
    bar.setAttribute('aria-label', told)
    let from = 0
    const stages = ['end', 'answer', 'sound', 'total']
    for (const [i, name] of stages.entries()) {
      // A stage without an end is part of the next one, or was interrupted by the end of the turn.
      const final = !stages.slice(i, 3).some(n => at[n] !== undefined)
      const to = Math.max(from, (final ? at.total : at[name]) ?? NaN)
      if (Number.isNaN(to)) continue
      bar.append(svg('rect', { class: 's' + (i + 1), x: x(from), y: 0, width: x(to - from), height: 10 }))
      from = to
      if (final) break
    }
    for (const name of ['frame', 'voice', 'request']) if (at[name] !== undefined) bar.append(svg('rect', { class: 'tick', x: x(at[name]), y: 0, width: .3, height: 10 }))
    const head = el('div', { className: 'head' },
      el('span', {}, `${new Date(turn.triggered).toLocaleTimeString(lang)} · ${turn.link} · ${t(turn.trigger)}${turn.wake_word ? ` “${turn.wake_word.name}”` : ''}`),
      el('b', { textContent: `${t(turn.result)} · ${(at.total ?? 0).toFixed(2)} s` }))
    const row = el('li', {}, head, bar, el('p', { className: 'ticks', textContent: told }))
    if (turn.result === 'failed') row.append(el('p', { className: 'why', textContent: turn.cause }))
    return row
  }))
  if (last.length === 0) $('turns').append(el('li', { textContent: t('noTurns') }))
}

$('examine').addEventListener('click', async () => {
  $('examine').disabled = true
  $('findings').replaceChildren(el('li', { textContent: t('examining') }))
  const findings = await call('doctor') ?? []
  $('examine').disabled = false
  $('findings').replaceChildren(...findings.map(f => el('li', {},
    el('b', { className: f.level, textContent: t(f.level) }), `${f.subject}: ${f.text}`, f.do ? el('p', { textContent: '→ ' + f.do }) : '')))
})

function renderLog(lines) {
  const box = $('log')
  const text = lines.map(l => l.at + l.text).join('\n')
  if (box.dataset.text_ === text) return
  const end = box.scrollTop + box.clientHeight >= box.scrollHeight - 8
  box.dataset.text_ = text
  box.replaceChildren(...lines.map(l => el('div', {},
    el('time', { dateTime: l.at, textContent: new Date(l.at).toLocaleTimeString(lang) }),
    el('span', { className: { ERROR: 'fail', WARN: 'warn' }[l.level] || '', textContent: l.text }))))
  if (lines.length === 0) box.append(t('noLog'))
  if (end) box.scrollTop = box.scrollHeight
}

enter()
