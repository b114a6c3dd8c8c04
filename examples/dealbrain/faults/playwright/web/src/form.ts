/**
 * The page's script: sends the form to the API and shows the new listing.
 *
 * The key is made once per listing, so that sending again after a failure adds nothing
 * twice. It comes from getRandomValues: randomUUID exists on https and localhost only.
 */
export const FORM_SCRIPT = `
const form = document.querySelector('form');
const note = document.querySelector('[role=status]');
const newKey = () => 'web-' + [...crypto.getRandomValues(new Uint8Array(12))]
  .map((byte) => byte.toString(16).padStart(2, '0')).join('');
let key = newKey();
form.addEventListener('submit', async (event) => {
  event.preventDefault();
  const fields = Object.fromEntries([...new FormData(form)].filter(([, value]) => value !== ''));
  const { price, ...rest } = fields;
  const listing = { ...rest, price_cents: Math.round(Number(price) * 100), key };
  note.textContent = 'Adding…';
  try {
    const answer = await fetch('/api/listing', {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify(listing),
    });
    if (!answer.ok) throw new Error('the server said ' + answer.status);
    key = newKey();
    location.reload();
  } catch (error) {
    note.textContent = 'Not added: ' + error.message + '. Please try again.';
  }
});
`;
