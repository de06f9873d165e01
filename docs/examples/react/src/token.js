/** Returns a token for the user that is signed in at the site. "" closes the room: no user is. */
export async function token() {
  const response = await fetch("/token");
  if (response.status === 401) return "";
  if (!response.ok) throw new Error(`/token: status ${response.status}`);
  return response.text();
}
