"""Persian phonemes in FarsDat's symbols, a small lexicon, and random sentences of real and invented words."""

from __future__ import annotations

from typing import TypeVar

import numpy as np

SILENCE = "sil"
VOWELS = ("a", "e", "o", "A", "i", "u")  # A: the long open vowel
CONSONANTS = (
    *("p", "b", "t", "d", "k", "g", "q", ",", "'", "]"),  # , as in church  ' as in judge  ] the glottal stop
    *("f", "v", "s", "z", "S", "Z", "x", "h", "m", "n", "l", "r", "y"),
)
PHONES = (*VOWELS, *CONSONANTS, SILENCE)  # the 30 classes with which FarsDat is scored

Word = tuple[str, ...]
Item = TypeVar("Item")

# The lexicon is easier to read with letters for three phonemes: ch, the j of "jam", and the glottal stop.
_LETTERS = {"c": ",", "j": "'", "?": "]"}


def spell(letters: str) -> Word:
    """The phonemes of a word that is written in the letters of the lexicon."""
    return tuple(_LETTERS.get(letter, letter) for letter in letters)


def _words(block: str) -> tuple[Word, ...]:
    return tuple(spell(letters) for letters in block.split())


NOUNS = _words("""
    ?Ab ketAb dAneS dAneSju mo?allem madrese dAneSgAh ?otAq xAne dar panjere divAr kuce xiyAbAn Sahr rustA keSvar jahAn
    zamin ?AsemAn xorSid mAh setAre daryA rud kuh jangal deraxt gol barg sib ?angur porteqAl hendevAne nAn panir Sir cAy
    qahve qazA nAhAr SAm sobh zohr Sab ruz hafte sAl bahAr tAbestAn pAyiz zemestAn barf bArAn bAd havA gorg gAv gusfand
    ?asb morq mAhi gorbe sag parande pedar mAdar barAdar xAhar pesar doxtar mard zan kudak dust hamsAye mehmAn pezeSk
    mohandes kArgar keSAvarz naqqAS SA?er nevisande bAzAr foruSgAh pul qeymat sekke jib kif kafS lebAs pirAhan kolAh
    dast pA sar ceSm guS dahAn qalb xun jAn ruh zabAn kaleme jomle safhe daftar medAd kAqaz nAme qesse Se?r ?AvAz musiqi
    film ?aks rang bAzi varzeS jAyeze so?Al javAb fekr xAb xiyAl ?omid ?eSq qam SAdi tars xaSm sabr kAr mASin docarxe
    qatAr havApeymA keSti safar rAh pol ?otobus baqqAl nAnvA ?ASpaz miz sandali taxt farS cerAq lAmp Sam? ?AteS dud sang
    xAk talA noqre ?Ahan cub SiSe ?Ayene sA?at lahze tArix farhang ?elm honar ?adab qAnun dAdgAh dolat mellat hezb
    ruznAme xabar gozAreS barnAme telefon rAyAne ?arus jaSn ?eyd hediye moZde ZAle ?eZdehA paZuheS maqAle ?angoStar maqz
    zaxm qors dAru bimAr bimArestAn ?atr bAq bAqce gonjeSk xorus zanbur ?asal Sekar namak felfel berenj guSt xorAk panbe
    ?abzAr nabz ja?be moZe moZgAn neZAd ZarfA bAzu zAnu ?abru ?angoSt nAxon ?ostexAn cAdor jurAb dokme nax suzan qeyci
    qASoq cangAl boSqAb livAn kuze tanur hozur goruh taraf noqte xatt ?adad senn daste naqSe
""")
ADJECTIVES = _words("""
    bozorg kucak boland kutAh zibA zeSt sabz sorx zard sefid siyAh ?Abi garm sard xub bad tAze kohne javAn pir qavi
    za?if tiz kond roSan tArik Sirin talx sangin sabok sAde saxt ?Asan ?arzAn gerAn xoSmaze xoShAl qamgin xaste zerang
    mehrabAn mo?addab jadid qadimi ?amiq pahn bArik narm zebr mohem maxsus puc kaj viZe paZmorde ?ajib zende morde
""")
ADVERBS = _words("""
    ?emruz diruz fardA diSab ?emSab hamiSe gAhi hargez zud dir ?Aheste nAgahAn dobAre hanuz ?aknun ba?dan qablan xeyli
    faqat SAyad hatman ?injA ?AnjA tanhA
""")
PRONOUNS = _words("man to ?u mA SomA ?AnhA ?in ?An hame kasi")
VERBS = _words("""
    raft ?Amad goft Senid did xarid foruxt xord nuSid nevest xAnd dAd gereft ?Avard bord sAxt Sekast duxt poxt Sost
    baxSid fahmid porsid xandid gerist david parid jast yAft bast ?andAxt bardASt gozASt ?Amuxt miravam mi?Ayad miguyand
    mixAhim midAnam mibinad minevisad mixarid mikonand misAzim mixorad nemidAnad neSast bargaSt xAbid ?oftAd resid mAnd
    Sod ?ast nist budand
""")
_RA = spell("rA")  # the particle that marks the object
# The consonants at the end of an invented syllable CVCC: the first, and the second.
_SOFT = ("r", "l", "m", "n", "s", "S", "x", "f", "h", "z", "b")
_HARD = ("t", "d", "k", "g", "q", "s", "z", "S", "'", "b", "f", "m")


def make_sentences(count: int, rng: np.random.Generator, taken: set[Word]) -> list[list[Word]]:
    """Make `count` random sentences, each a list of words, with random numbers from `rng`.

    Half of them have real words in Persian order, a fifth have invented words, and the others have both. No sentence
    has the same phonemes as another one or as one in `taken`, to which the new sentences are added.
    """
    sentences: list[list[Word]] = []
    while len(sentences) < count:
        kind = rng.random()
        if kind < 0.2:
            sentence = [_invent_word(rng) for _ in range(rng.integers(3, 6))]
        else:
            sentence = _real_sentence(rng)
            if kind < 0.5:
                sentence = [_invent_word(rng) if rng.random() < 0.4 else word for word in sentence]
        phones = sum(sentence, ())
        if phones not in taken:
            taken.add(phones)
            sentences.append(sentence)
    return sentences


def _choose(items: tuple[Item, ...], rng: np.random.Generator) -> Item:
    return items[rng.integers(len(items))]


def _real_sentence(rng: np.random.Generator) -> list[Word]:
    """Subject, perhaps an adverb, usually an object, and a verb. Word classes are right, but it has no meaning."""
    sentence = [_choose(PRONOUNS, rng)] if rng.random() < 0.3 else _noun_phrase(rng)
    if rng.random() < 0.5:
        sentence.append(_choose(ADVERBS, rng))
    if rng.random() < 0.7:
        sentence += [*_noun_phrase(rng), _RA]
    return [*sentence, _choose(VERBS, rng)]


def _noun_phrase(rng: np.random.Generator) -> list[Word]:
    noun = _choose(NOUNS, rng)
    if rng.random() < 0.5:
        return [noun]
    # The ezafe joins a noun to the word that describes it.
    ezafe = ("y", "e") if noun[-1] in VOWELS else ("e",)
    return [noun + ezafe, _choose(ADJECTIVES if rng.random() < 0.7 else NOUNS, rng)]


def _invent_word(rng: np.random.Generator) -> Word:
    """A word of one to three syllables CV, CVC or CVCC. CVCC is only at the end."""
    word: Word = ()
    num_syllables = 1 + rng.choice(3, p=(0.25, 0.55, 0.2))
    for index in range(num_syllables):
        last = index == num_syllables - 1
        shape = rng.choice(3, p=(0.35, 0.45, 0.2) if last else (0.6, 0.4, 0.0))
        onset = _choose(tuple(c for c in CONSONANTS if c != word[-1]) if word else CONSONANTS, rng)
        word += (onset, _choose(VOWELS, rng))
        if shape == 1:
            word += (_choose(CONSONANTS, rng),)
        elif shape == 2:
            soft = _choose(_SOFT, rng)
            word += (soft, _choose(tuple(c for c in _HARD if c != soft), rng))
    return word
