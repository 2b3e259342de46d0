// The keyboard of the frame: / searches, ? helps, g and a letter open a page. Runs in the page itself, once.
// `deckKeys` is written before this script: the letter of each page and its path, or null when keys are switched off.
(() => {
  if (window.deckListens) return
  window.deckListens = true
  let wentAt = 0

  const isTyping = (target) =>
    target instanceof HTMLElement &&
    (target.isContentEditable || !!target.closest('input, textarea, select, [role="textbox"], [role="combobox"]'))

  const press = (name) => document.querySelector(`.st-key-frame_${name} button`)?.click()

  const open = (path) => {
    const links = [...document.querySelectorAll('a[data-testid="stSidebarNavLink"]')]
    const link = links.find((each) => each.pathname.replace(/\/$/, '').split('/').pop() === path)
    const first = path === '' ? links[0] : undefined
    const found = link ?? first
    found ? found.click() : window.location.assign(new URL(path || '.', document.baseURI))
  }

  // Streamlit puts the groups of the navigation between the list and its items, which is no list to a screen reader:
  // the links then stand by themselves within the landmark.
  const tidy = () => {
    for (const list of document.querySelectorAll('[data-testid="stSidebarNavItems"]')) {
      for (const each of [list, ...list.querySelectorAll('li:not([role])')]) each.setAttribute('role', 'presentation')
    }
  }
  tidy()
  new MutationObserver(tidy).observe(document.body, { childList: true, subtree: true })

  document.addEventListener('keydown', (event) => {
    const keys = window.deckKeys
    if (!keys || event.ctrlKey || event.metaKey || event.altKey || event.isComposing || isTyping(event.target)) return
    if (document.querySelector('[role="dialog"]')) return
    const isSecond = Date.now() - wentAt < 1500
    wentAt = 0
    if (isSecond && event.key in keys) open(keys[event.key])
    else if (event.key === '/') press('search')
    else if (event.key === '?') press('help')
    else if (event.key === 'g') { wentAt = Date.now(); return }
    else return
    event.preventDefault()
  })

  document.addEventListener('keydown', (event) => {
    const box = event.target
    if (!(box instanceof HTMLElement) || !box.closest('.st-key-frame_words')) return
    const dialog = box.closest('[role="dialog"]')
    if (event.key === 'ArrowDown') {
      dialog?.querySelector('[data-testid="stPageLink"] a')?.focus()
      event.preventDefault()
    }
  })
})()
