"""The words that prompts are made of. A new entry changes which prompt a number
stands for: a recorded run names the commit that it was made with."""


def _words(text: str) -> list[str]:
    return text.strip().replace("\n", "|").split("|")


TOPICS = _words("""
the water cycle|photosynthesis|black holes|volcanoes|the Roman Empire|the printing press|electric cars|solar panels|inflation
the stock market|coral reefs|bees and pollination|vaccines|the immune system|sleep|migraines|habits|time management|public speaking
learning a language|jazz|the violin|Renaissance painting|street photography|chess openings|marathon training|yoga|swimming technique
bread baking|fermented food|coffee roasting|tea ceremonies|vegetable gardens|composting|houseplants|birdwatching|llamas|sheepdogs
cats as pets|training a puppy|mountain hiking|winter camping|sailing|train travel|budget airlines|city bicycles|urban planning
public libraries|remote work|job interviews|writing a résumé|small businesses|customer service|negotiation|open source software
computer networks|databases|operating systems|compilers|encryption|passwords|machine learning|robotics|3D printing|satellites
the Moon landing|Mars|tides|earthquakes|hurricanes|glaciers|deserts|rainforests|whales|migration of birds|dinosaurs|evolution
genetics|antibiotics|nutrition|hydration|protein|electricity|magnetism|gravity|atoms|the periodic table|acids and bases|plastics
recycling|clean drinking water|nuclear power|wind turbines|bridges|skyscrapers|the steam engine|the telephone|radio|cinema
fairy tales|detective novels|poetry|science fiction|theatre|folk music|board games|football|tennis|the Olympic Games|maps|calendars
fractions|prime numbers|probability|geometry|statistics|taxes|insurance|mortgages|saving money|democracy|constitutions|trade routes
""")

PEOPLE = _words("""
a ten-year-old|a busy manager|a retired teacher|a first-year student|a nurse|a farmer|a tourist|a new parent|a software developer
a shop owner|a journalist|a musician|an engineer|a curious neighbour|someone who has never heard of it|a sceptic|my grandmother
a high school class|a team of volunteers|a non-native speaker
""")

NAMES = _words("""
Anna|Ben|Carla|David|Elena|Farid|Grace|Hugo|Ines|Jonas|Keiko|Liam|Maya|Noah|Olga|Pedro|Quinn|Rosa|Samir|Tara|Uma|Victor|Wen|Yara|Zoe
""")

PLACES = _words("""
Lisbon|Kyoto|Nairobi|Oslo|Lima|Montreal|Edinburgh|Istanbul|Melbourne|Hanoi|Prague|Marrakesh|Buenos Aires|Vienna|Reykjavik|Cape Town
a village in the Alps|a small island|a harbour town|the countryside|a crowded city|the desert|a train station|an old lighthouse
""")

TONES = _words("""
friendly|formal|cheerful|calm|persuasive|humorous|matter-of-fact|encouraging|polite|dramatic|concise|warm
""")

LENGTHS = _words("""
in one sentence|in two or three sentences|in one short paragraph|in about 100 words|in about 150 words|in two paragraphs|briefly
in simple words|step by step|with an example
""")

SYSTEMS = _words("""
You are a helpful assistant.|You are a patient teacher.|You answer briefly and to the point.|You are a friendly customer support agent.
You are an experienced software engineer.|You are a careful editor.|Answer in plain English, without jargon.
You are a travel guide who knows many places.|You are a science journalist.|You explain things with everyday examples.
""")

FOLLOW_UPS = _words("""
Can you make that shorter?|Give me an example.|Why is that?|Explain the last point in more detail.|Now say it for a child.
What is the most common mistake people make with this?|Summarise that in one sentence.|What should I do first?|Turn that into a list.
Are there any exceptions?|What would you add?|Can you say that more formally?
""")

LANGUAGES = ["Python", "Go", "JavaScript", "TypeScript", "Java", "C", "C++", "Rust", "Ruby", "SQL", "Bash"]

CODE_TASKS = _words("""
reverses a string|checks whether a word is a palindrome|returns the n-th Fibonacci number|computes the factorial of a number
finds the largest number in a list|removes duplicates from a list while keeping the order|counts how often each word occurs in a text
sorts a list with bubble sort|sorts a list with merge sort|does a binary search in a sorted list|merges two sorted lists
checks whether a number is prime|lists all primes up to n|computes the greatest common divisor of two numbers|transposes a matrix
multiplies two matrices|parses a line of comma-separated values|reads a file and prints its longest line|validates an email address
converts Celsius to Fahrenheit|converts a number to Roman numerals|converts an integer to binary|groups words that are anagrams
finds the first character that does not repeat|checks whether brackets are balanced|implements a stack|implements a queue
implements a linked list with insert and delete|traverses a binary tree in order|finds the depth of a binary tree
finds the shortest path in a grid|computes the average and the median of numbers|rounds a price to two decimals|generates a random password
retries a call with exponential backoff|limits how many calls are made a second|caches the results of a slow function
counts the lines of all files in a folder|renames all files of a folder to lower case|fetches a web page and prints its title
formats a date as year-month-day|computes the days between two dates|splits a list into chunks of n|flattens a nested list
finds two numbers that add up to a target|rotates a list by k places|counts the vowels of a string|capitalises every word
encodes a text with a Caesar cipher|compares two version numbers|logs messages with a time stamp|parses command line arguments
""")

THINGS = _words("""
books to read on holiday|healthy breakfasts|vegetarian dinners|cheap gifts|party games for children|names for a cat|names for a bakery
exercises without equipment|ways to save water|ways to save electricity|things to pack for a beach trip|things to pack for a mountain hike
questions to ask in a job interview|tips for better sleep|tips for writing clearly|tips for learning to cook|hobbies for rainy days
musical instruments and how they sound|trees and where they grow|rivers and the countries they cross|inventions that changed daily life
mistakes that beginners make in chess|steps to plan a birthday party|steps to repot a plant|steps to fix a flat bicycle tyre
steps to bake bread|ideas for a school project|ideas for a weekend in the city|topics for a blog about travel|uses for old newspapers
advantages of public transport|disadvantages of social media|rules of good email|signs of stress|spices and dishes they suit
kinds of clouds|kinds of cheese|kinds of bridges|famous paintings|planets of the solar system|common idioms and their meaning
safety rules for a workshop|reasons to learn history|features of a good backpack|words that describe the sea|colours and feelings
""")

FORMATS = _words("""
as a numbered list|as a bulleted list|as a bulleted list with one line each|as a numbered list with a short reason for each
as a table with two columns|as a comma-separated line|in order of importance|grouped under short headings
""")

QUESTIONS = _words("""
What is {topic}?|How does {topic} work?|Why does {topic} matter?|What is the history of {topic}?|Who discovered or started {topic}?
What are the main facts about {topic}?|What do people often get wrong about {topic}?|What is the difference between {topic} and {other}?
What do {topic} and {other} have in common?|How has {topic} changed over the last hundred years?|Where can I learn about {topic}?
What should {person} know about {topic}?|Is {topic} more important than {other}?|How would you explain {topic} to {person}?
What would the world be like without {topic}?
""")

CHATS = _words("""
Hi, I am {name}. I want to learn about {topic}. Where should I start?|Tell me something interesting about {topic}.
I have a free day in {place}. What should I do?|Write a {tone} email to {name} about {topic}.|Explain {topic} to {person} {length}.
Write a short story about {name} in {place}. Make it {tone}.|Write a poem about {topic} with two verses.
Help me decide: should I spend my evening on {topic} or on {other}?|My friend {name} is sad. What can I say? Keep it {tone}.
Write a {tone} invitation to a talk on {topic} in {place}.|Write a dialogue between {name} and {second} about {topic}.
I am preparing a speech on {topic} for {person}. Write the opening {length}.|Describe {place} {length}.
Give me advice on {topic} {length}.|Plan a three-day trip to {place} for {name} and {second}.|Write a {tone} review of a course on {topic}.
Tell {person} why {topic} is worth the time, {length}.|What would {name} and {second} argue about if they talked about {topic}?
Write a diary entry of {name}, who is visiting {place} for the first time.|Teach me {topic} {length}.
Write a {tone} note that thanks {name} for help with {topic}.
""")

CODES = _words("""
Write a {language} function that {task}.|Write a {language} function that {task}. Add comments.
Show me how {language} code looks that {task}.
Write a {language} program that {task}, with a short explanation.|I need {language} code that {task}. Keep it simple.
Write a unit test in {language} for a function that {task}.|Explain how a {language} function that {task} would work, then write it.
Write two versions in {language} of a function that {task}, and compare them.|Write a class in {language} with a method that {task}.
What are the edge cases of a {language} function that {task}?|Write pseudocode and then {language} for a function that {task}.
""")

LISTS = _words("""
List {count} {things} {format}.|Give me {count} {things}.|Give me {count} {things}, {format}.|What are {count} good {things}?
Name {count} {things} for {person}, {format}.|List {count} facts about {topic} {format}.|List the pros and cons of {topic}.
Make a checklist on {topic} for {person}.|Give {count} questions about {topic} for a quiz, with answers.
Write {count} headlines for an article on {topic}.|List {count} words that have to do with {topic}, {format}.
""")

REWRITES = _words("""
Rewrite this in a {tone} tone: {passage}|Make this shorter: {passage}|Correct the mistakes in this text: {broken}
Summarise this in one sentence: {passage}|Turn this into a list of points: {passage}|Rewrite this for {person}: {passage}
Translate this into simple English: {passage}|Rewrite this in the past tense: {passage}|Continue this text: {passage}
Write a title for this text: {passage}|Repeat this text exactly, word for word: {passage}|Rewrite this as an email to {name}: {passage}
Replace the names in this text by {name} and {second}: {passage}|Make this text longer and more vivid: {passage}
""")

# Sentences of a passage; each takes its own names, places and things.
SENTENCES = _words("""
{name} moved to {place} last spring and found work in a small shop.|The meeting about {topic} begins at nine and will last two hours.
We walked through {place} for hours and did not meet anybody.|Nobody had told {name} that {topic} would be so hard to explain.
{name} and {second} have been friends since they met in {place}.|The report says that interest in {topic} has doubled in five years.
Please send the documents before Friday, so that {name} can check them.|It rained all day, and the road to {place} was closed.
The old house stands at the end of the street, behind two tall trees.|{second} called to say that the delivery would be late again.
Many people think that {topic} is boring, but {name} disagrees.|The train to {place} leaves every hour and takes forty minutes.
Our team has learned a lot about {topic} this year and wants to share it.|In the evening they cooked together and talked about {topic}.
The price went up twice, which surprised everyone except {second}.|{name} wrote a letter, put it in a drawer, and forgot about it.
""")

# Slips that a correction has to find: each turns one word into another.
SLIPS = {
    "has": "have", "have": "has", "their": "there", "was": "were", "were": "was", "does": "do", "a": "an", "an": "a", "than": "then",
    "and": "adn", "the": "teh", "about": "abuot", "because": "becuase", "found": "find", "went": "go", "wrote": "writed", "takes": "take",
    "begins": "begin", "says": "say", "would": "wuold", "people": "poeple", "friends": "freinds", "evening": "evning",
}  # fmt: skip
