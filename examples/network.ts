/** Where the network is: `npm start` says so. */
export const baseURL: string = process.env["SKEIN_URL"] ?? "http://127.0.0.1:4141/v1";
export const apiKey: string = process.env["SKEIN_API_KEY"] ?? "none";
/** The demo model is tiny: it answers in the right form, not cleverly. */
export const modelName: string = process.env["SKEIN_MODEL"] ?? "tiny";
