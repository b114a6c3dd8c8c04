import { FORM_SCRIPT } from './form';
import { money } from './money';

/** A listing as the API lists it. */
export interface Listing {
  readonly id: number;
  readonly title: string;
  readonly price_cents: number;
  readonly discount_percent: number;
  readonly condition?: string | null;
  readonly seller?: string | null;
}

const STYLE = `
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif; }
body { max-width: 42rem; margin: 0 auto; padding: 1rem; }
form { display: grid; gap: .5rem; margin-block: 1rem; }
input, select, button { font: inherit; padding: .6rem; min-height: 44px; box-sizing: border-box; width: 100%; }
ul { list-style: none; padding: 0; }
li { display: flex; flex-wrap: wrap; gap: .25rem 1rem; justify-content: space-between;
     padding: .6rem 0; border-bottom: 1px solid #8884; overflow-wrap: anywhere; }
small, footer { opacity: .7; }
`;

const ESCAPES: Record<string, string> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;', "'": '&#39;' };

export function escapeHtml(text: string): string {
  return text.replace(/[&<>"']/g, (character) => ESCAPES[character] ?? character);
}

function item(listing: Listing): string {
  const discount = listing.discount_percent > 0 ? ` <small>−${listing.discount_percent} %</small>` : '';
  const condition = listing.condition ? ` <small>${escapeHtml(listing.condition)}</small>` : '';
  const seller = listing.seller ? ` <small>from ${escapeHtml(listing.seller)}</small>` : '';
  return `<li data-id="${listing.id}"><span>${escapeHtml(listing.title)}${condition}${seller}</span>
<span>${money(listing.price_cents)}${discount}</span></li>`;
}

/** The whole page: it carries its style and script, so one answer comes from one version. */
export function renderPage(listings: readonly Listing[], version: string): string {
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Deal Brain</title>
<style>${STYLE}</style>
</head>
<body>
<h1>Deal Brain</h1>
<form>
<input name="title" aria-label="Title" placeholder="What is it?" required maxlength="200">
<input name="price" aria-label="Price" placeholder="Price in dollars" required type="number" min="0.01" step="0.01">
<select name="condition" aria-label="Condition">
<option value="">Condition unknown</option><option>new</option><option>used</option><option>refurbished</option>
</select>
<input name="seller" aria-label="Seller" placeholder="Who sells it? (optional)" maxlength="100">
<button>Add listing</button>
<p role="status"></p>
</form>
<ul aria-label="Listings">
${listings.map(item).join('\n')}
</ul>
<footer>Version <span id="version">${escapeHtml(version)}</span></footer>
<script>${FORM_SCRIPT}</script>
</body>
</html>
`;
}
